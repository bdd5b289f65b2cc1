"""The bank's database: SQLite, made from the scripts in `data/` on first use."""

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

CUSTOMERS_SQL = Path(__file__).with_name("data") / "customers.sql"
PAYMENTS_SQL = Path(__file__).with_name("data") / "payments.sql"
LOCK_TIMEOUT_SECONDS = 5.0

_Row = tuple[str | int, ...]


def database_path() -> Path:
    """Returns where the database lives: `$AXON_DATA_DIR`, else `.axon` in the project's root."""
    return Path(os.environ.get("AXON_DATA_DIR") or ".axon") / "bank_support.sqlite3"


@dataclass(frozen=True)
class CardPayment:
    """One payment with a customer's card, as the shop reported it."""

    merchant: str
    city: str
    amount_cents: int
    paid_on: str
    """The day, as in 2026-09-17."""


class BankDatabase:
    """One open, read-only connection; what is written has a connection of its own.

    Queries run on threads, so the event loop never waits.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._in_use = threading.Lock()  # a cancelled run may close while its query still runs

    @classmethod
    async def open(cls, path: Path) -> "BankDatabase":
        """Opens the database at `path` and adds first what an older one lacks, or a new one."""
        return cls(path, await asyncio.to_thread(_connect, path))

    async def customer_name(self, customer_id: int) -> str | None:
        """Returns the customer's name, or None if the bank has no such customer."""
        rows = await self._rows("SELECT name FROM customers WHERE id = ?", customer_id)
        return str(rows[0][0]) if rows else None

    async def balance_cents(self, customer_id: int, *, include_pending: bool) -> int:
        """Returns the sum of the customer's movements, in cents."""
        [[cents]] = await self._rows(
            "SELECT COALESCE(SUM(amount_cents), 0) FROM movements"
            " WHERE customer_id = ? AND pending <= ?",
            customer_id,
            int(include_pending),
        )
        return int(cents)

    async def recent_payments(self, customer_id: int, limit: int) -> list[CardPayment]:
        """Returns the customer's last payments with the card, the newest first."""
        rows = await self._rows(
            "SELECT merchant, city, amount_cents, paid_on FROM payments"
            " WHERE customer_id = ? ORDER BY paid_on DESC, id DESC LIMIT ?",
            customer_id,
            limit,
        )
        return [CardPayment(str(row[0]), str(row[1]), int(row[2]), str(row[3])) for row in rows]

    async def block_card(self, customer_id: int, key: str) -> bool:
        """Blocks the customer's card for good; returns False if another call had done so.

        The same `key` gives the same answer however often it is asked.
        """
        await asyncio.to_thread(_block_card, self._path, customer_id, key)
        return await self.was_blocked_by(key)

    async def was_blocked_by(self, key: str) -> bool:
        """Returns whether the call of this key has blocked a card."""
        return bool(await self._rows("SELECT 1 FROM blocked_cards WHERE call_key = ?", key))

    def close(self) -> None:
        """Closes the connection, after any query that still runs."""
        with self._in_use:
            self._connection.close()

    async def _rows(self, query: str, *values: int | str) -> list[_Row]:
        return await asyncio.to_thread(self._rows_blocking, query, values)

    def _rows_blocking(self, query: str, values: tuple[int | str, ...]) -> list[_Row]:
        with self._in_use:
            return self._connection.execute(query, values).fetchall()


def _block_card(path: Path, customer_id: int, key: str) -> None:
    with closing(_open(path)) as connection:
        connection.execute(
            "INSERT INTO blocked_cards (customer_id, call_key) VALUES (?, ?)"
            " ON CONFLICT DO NOTHING",
            (customer_id, key),
        )


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _open(path)
    try:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        for script in (CUSTOMERS_SQL, PAYMENTS_SQL)[version:]:
            connection.executescript(script.read_text(encoding="utf-8"))
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
