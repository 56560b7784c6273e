"""What alembic runs for each migration; the connection, inside its transaction, comes from database.migrate()."""

from alembic import context

from nvr.hub.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
