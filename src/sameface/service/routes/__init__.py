"""The routes of the service, one module per tag of the API."""
