"""Opens the database that holds a process's state: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ringfence.core.errors import ConfigError


def open_engine(url: str) -> Engine:
    """Open `url`, such as `sqlite:///state/state.db` or `postgresql+psycopg://host/db`.

    A commit is durable when it returns: SQLite runs in WAL mode with full synchronisation, and
    writers wait for one another instead of failing.  Whoever only reads says so with
    `engine.execution_options(reads_only=True)`, and waits for nobody.
    Raises: ConfigError when the URL is malformed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"database: expected a URL such as 'sqlite:///state/state.db', got {url[:60]!r}"
        ) from error
    engine = create_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: SqliteConnection, _record: object) -> None:
    # The driver's own transaction control would begin lazily, after the first read; two writers
    # could then both read before one of them writes.  SQLAlchemy begins explicitly instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # A single SELECT of SQLite is a transaction by itself, on what was committed last.
    if not connection.get_execution_options().get("reads_only"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
