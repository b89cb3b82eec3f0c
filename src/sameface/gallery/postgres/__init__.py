"""The gallery of a team, in PostgreSQL with pgvector; the only code that imports psycopg."""
