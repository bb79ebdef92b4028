"""Runs the migrations on the connection that it is given, inside the transaction that is under way."""

from alembic import context

from quintet.registry.tables import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
