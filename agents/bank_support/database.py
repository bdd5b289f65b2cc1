"""The bank's database: SQLite, made from `data/customers.sql` on first use."""

import asyncio
import os
import sqlite3
import threading
from pathlib import Path

CUSTOMERS_SQL = Path(__file__).with_name("data") / "customers.sql"
LOCK_TIMEOUT_SECONDS = 5.0


def database_path() -> Path:
    """Returns where the database lives: `$AXON_DATA_DIR`, else `.axon` in the project's root."""
    return Path(os.environ.get("AXON_DATA_DIR") or ".axon") / "bank_support.sqlite3"


class BankDatabase:
    """One open, read-only connection. Queries run on threads, so the event loop never waits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._in_use = threading.Lock()  # a cancelled run may close while its query still runs

    @classmethod
    async def open(cls, path: Path) -> "BankDatabase":
        """Opens the database at `path` and fills it first if it is new."""
        return cls(await asyncio.to_thread(_connect, path))

    async def customer_name(self, customer_id: int) -> str | None:
        """Returns the customer's name, or None if the bank has no such customer."""
        row = await self._first("SELECT name FROM customers WHERE id = ?", customer_id)
        return None if row is None else str(row[0])

    async def balance_cents(self, customer_id: int, *, include_pending: bool) -> int:
        """Returns the sum of the customer's movements, in cents."""
        row = await self._first(
            "SELECT COALESCE(SUM(amount_cents), 0) FROM movements"
            " WHERE customer_id = ? AND pending <= ?",
            customer_id,
            int(include_pending),
        )
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Closes the connection, after any query that still runs."""
        with self._in_use:
            self._connection.close()

    async def _first(self, query: str, *values: int) -> tuple[str | int, ...] | None:
        return await asyncio.to_thread(self._first_blocking, query, values)

    def _first_blocking(self, query: str, values: tuple[int, ...]) -> tuple[str | int, ...] | None:
        with self._in_use:
            row: tuple[str | int, ...] | None = self._connection.execute(query, values).fetchone()
            return row


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            connection.executescript(CUSTOMERS_SQL.read_text(encoding="utf-8"))
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection
