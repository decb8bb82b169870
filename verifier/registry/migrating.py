"""From the format of an older registry to that of this verifier, step by step (:mod:`verifier.registry.migrations`)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, update

from verifier.registry import schema

STEPS = Path(__file__).parent / "migrations"
VERSION_TABLE = "registry_format"  # alembic's own note of the last step; the database may hold others' tables, too


def migrate(connection: Connection, found: int, wanted: int = schema.SCHEMA) -> None:
    """Take all steps from one format to a later one, inside ``Registry.write()``.

    Args:
        connection: its transaction holds everything, on SQLite too: all steps are taken, or none.
        found: the format now; 0 for an empty database.
        wanted: the format to reach.
    """
    config = _config(connection)
    if found:
        command.stamp(config, _revision(found), purge=True)
    command.upgrade(config, _revision(wanted))
    connection.execute(update(schema.registry).values(schema=wanted))


def stamp(connection: Connection) -> None:
    """Note in a database with the tables of :mod:`verifier.registry.schema` that no step is missing."""
    command.stamp(_config(connection), "head")


def _revision(format_: int) -> str:
    return f"{format_:04}"


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("version_locations", str(STEPS / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_table", VERSION_TABLE)
    return config
