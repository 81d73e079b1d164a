"""Alembic's entry: runs in the transaction that :func:`riverchief.migrations.upgrade` opened."""

from alembic import context

from infra.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
