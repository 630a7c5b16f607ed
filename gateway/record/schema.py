"""The schema of the record: bring it to the newest version, or see whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from loguru import logger
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from gateway.errors import DatabaseUnavailable
from gateway.record.database import CONNECT_TIMEOUT_SECONDS, driver_url
from gateway.record.tables import metadata

#: Any fixed number: whoever holds this advisory lock migrates, others wait.
MIGRATION_LOCK = 0x0EA5E1

_HAS_NO_STATISTICS = text("SELECT reltuples < 0 FROM pg_class WHERE oid = 'generations'::regclass")
_TAKE_STATISTICS = text(f"ANALYZE {', '.join(metadata.tables)}")


def migrate(url: str) -> None:
    """Bring the database to the newest version of the schema; several callers at once are safe.

    One that is newer than this program stays as it is, as after an upgrade that is being taken back.

    Raises:
        DatabaseUnavailable: the database is out of reach.
    """
    engine = create_engine(driver_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            before = _revision(connection)
            config = _config()
            if not _serves(before, config):
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            if _revision(connection) != before or connection.execute(_HAS_NO_STATISTICS).scalar_one():
                # Without them a new index of an expression is not used, and nearly none of a record that was restored.
                connection.execute(_TAKE_STATISTICS)
            logger.info("the schema is at {} (was {})", _revision(connection), before or "empty", action="migrated")
    except OperationalError as error:
        raise DatabaseUnavailable from error
    finally:
        engine.dispose()


def is_current(url: str) -> bool:
    """Whether the database has the newest version of the schema, or one that is newer than this program.

    Raises:
        DatabaseUnavailable: the database is out of reach, or does not let us look.
    """
    engine = create_engine(driver_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS})
    try:
        with engine.connect() as connection:
            revision = _revision(connection)
    except OperationalError as error:
        raise DatabaseUnavailable from error
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise DatabaseUnavailable from error
    finally:
        engine.dispose()
    return _serves(revision, _config())


def _serves(revision: str | None, config: Config) -> bool:
    # Migrations expand first and contract later, so a schema that is ahead of us still serves us.
    return revision is not None and revision >= str(ScriptDirectory.from_config(config).get_current_head())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
