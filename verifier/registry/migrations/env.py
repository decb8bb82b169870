"""Alembic's way in: runs steps on the connection of :mod:`verifier.registry.migrating`, inside its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.get_main_option("version_table"),
)
context.run_migrations()
