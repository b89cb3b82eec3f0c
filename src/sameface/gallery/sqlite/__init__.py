"""A gallery in a SQLite file."""
