"""Alembic's migrations of the hub's tables; run by database.migrate(), never by alembic's own command line."""
