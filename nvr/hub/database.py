"""The database of the hub: one engine, short transactions, migrations that run from the program itself.

SQLite is used with its log synced at each commit (WAL, synchronous FULL): what was committed survives a power cut.
PostgreSQL promises the same by its own default; a session that was set otherwise is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command as alembic_command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nvr.errors import NvrError
from nvr.hub import tables

log = logging.getLogger(__name__)

BUSY_S = 30.0  # another process of the same hub writes
CONNECTIONS_MOST = 45  # starlette's 40 threads and our own
_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x6E7672  # "nvr": PostgreSQL's advisory lock for migrations


class DatabaseUnusable(NvrError):
    """It cannot be reached, or its tables are of another version."""


class Store:
    """Transactions on the hub's database; used from any thread.

    A block is one transaction: committed and durable when it ends, gone when it raises. Keep it short, do no network in it.
    """

    def __init__(self, url: str) -> None:
        """Opens nothing yet. Raises DatabaseUnusable for an address that is none."""
        try:
            self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
            self.engine: Engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        except (SQLAlchemyError, ImportError) as error:
            raise DatabaseUnusable(
                f"the database address cannot be used: {error}", hint="Look at `database` in hub.yaml."
            ) from None
        self._writing = threading.Lock()  # threads of one process queue here instead of polling SQLite's lock

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._writing if self.is_sqlite else contextlib.nullcontext(), self.engine.connect() as connection:
            connection = connection.execution_options(nvr_writing=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


def _sqlite_engine(url: str) -> Engine:
    path = Path(make_url(url).database or "hub.db")

    def connect() -> sqlite3.Connection:
        # psow=0: a disk that loses power while it writes may harm what was durable beside it in the same page, so nothing is appended there.
        return sqlite3.connect(f"{path.absolute().as_uri()}?psow=0", uri=True, timeout=BUSY_S, check_same_thread=False)

    engine = create_engine(url, pool_size=CONNECTIONS_MOST, max_overflow=0, creator=connect)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver would say it too late
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MB: checkpoints are what a busy hub waits for
        cursor.execute("PRAGMA cache_size = -16000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        writes = connection.get_execution_options().get("nvr_writing")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=CONNECTIONS_MOST,
        max_overflow=0,
        pool_pre_ping=True,  # a database that was restarted costs nobody an error
        connect_args={"connect_timeout": 10, "options": "-c synchronous_commit=on -c timezone=UTC"},
    )


def upsert(connection: Connection, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT in the database's own dialect."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)


# -- migrations ---------------------------------------------------------------------------------------------------


logging.getLogger("alembic").setLevel(logging.WARNING)  # that it looked is nobody's news


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def newest_revision() -> str:
    """The one this program was written for."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def revision(store: Store) -> str | None:
    """The one the database has; None for an empty database. Raises DatabaseUnusable."""
    try:
        with store.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise DatabaseUnusable(
            f"the database cannot be reached: {_short(error)}",
            hint="Is it running, and is `database` in hub.yaml right?",
        ) from None


def migrate(store: Store, data_dir: Path) -> tuple[str | None, str]:
    """Bring the tables to the newest revision; (before, after). Several processes may call it at once. Raises DatabaseUnusable."""
    before = revision(store)
    config = _config()
    with _migrations_locked(store, data_dir), store.engine.connect() as connection:
        connection = connection.execution_options(nvr_writing=True)
        with connection.begin():
            if not store.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _refuse_newer(MigrationContext.configure(connection).get_current_revision())
            config.attributes["connection"] = connection
            alembic_command.upgrade(config, "head")
            if connection.execute(select(tables.tenant.c.id)).first() is None:
                connection.execute(tables.tenant.insert().values(name="city", title=""))
    return before, newest_revision()


@contextlib.contextmanager
def _migrations_locked(store: Store, data_dir: Path) -> Iterator[None]:
    if not store.is_sqlite:
        yield
        return
    with open(data_dir / "migrate.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _refuse_newer(current: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise DatabaseUnusable(
            f"the database has revision {current}, which this program does not know",
            hint="A newer hub wrote it. Install that version, or put the backup from before the upgrade back.",
        )


def open_store(url: str, data_dir: Path) -> Store:
    """A store whose tables are right. SQLite is migrated by itself; PostgreSQL, which several hubs may share, by `nvr hub migrate`.

    Raises DatabaseUnusable.
    """
    store = Store(url)
    if store.is_sqlite:
        migrate(store, data_dir)
        return store
    current = revision(store)
    _refuse_newer(current)
    if current != newest_revision():
        raise DatabaseUnusable(
            f"the database has revision {current or 'none'}, this program needs {newest_revision()}",
            hint="Make a backup, then run `nvr hub migrate`.",
        )
    return store


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
