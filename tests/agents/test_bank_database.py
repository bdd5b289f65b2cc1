"""The bank's database: payments, blocked cards, and files that an older version made."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from bank_support import database
from bank_support.database import BankDatabase, CardPayment
from bank_support.money import dollars

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bank.sqlite3"


def ask(path: Path, question: Callable[[BankDatabase], Awaitable[T]]) -> T:
    async def go() -> T:
        with closing(await BankDatabase.open(path)) as bank:
            return await question(bank)

    return asyncio.run(go())


def test_payments_come_newest_first_and_are_the_customers_own(path: Path) -> None:
    assert ask(path, lambda bank: bank.recent_payments(123, 2)) == [
        CardPayment("Hotel Miradouro", "Lisbon", 48900, "2026-09-17"),
        CardPayment("Harbour Cafe", "Plymouth", 640, "2026-09-15"),
    ]
    cities = {p.city for p in ask(path, lambda bank: bank.recent_payments(124, 99))}
    assert cities == {"Leeds"}
    assert ask(path, lambda bank: bank.recent_payments(999, 99)) == []


def test_a_card_is_blocked_once_and_for_good(path: Path) -> None:
    assert ask(path, lambda bank: bank.block_card(123, "call-1")) is True
    assert ask(path, lambda bank: bank.block_card(123, "call-2")) is False
    assert ask(path, lambda bank: bank.block_card(124, "call-3")) is True


def test_the_same_call_gets_the_same_answer_again(path: Path) -> None:
    for _ in range(2):
        assert ask(path, lambda bank: bank.block_card(123, "call-1")) is True
    assert ask(path, lambda bank: bank.was_blocked_by("call-1")) is True
    assert ask(path, lambda bank: bank.was_blocked_by("call-2")) is False


def test_of_many_calls_at_once_one_blocks_the_card(path: Path) -> None:
    async def block(bank: BankDatabase) -> list[bool]:
        calls = (bank.block_card(123, f"call-{number}") for number in range(12))
        return await asyncio.gather(*calls)

    assert sorted(ask(path, block)) == [False] * 11 + [True]


def old_database(path: Path) -> None:
    """Makes a database as it was before there were payments, and in use since."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(database.CUSTOMERS_SQL.read_text(encoding="utf-8"))
        connection.execute("UPDATE customers SET name = 'Jack' WHERE id = 123")
        connection.execute("DELETE FROM customers WHERE id = 124")
        connection.execute("INSERT INTO movements VALUES (8, 123, 'Bonus', 5, 0)")
        connection.commit()


def test_a_database_of_an_older_version_goes_on_and_gets_payments(path: Path) -> None:
    old_database(path)
    for _ in range(2):
        assert ask(path, lambda bank: bank.customer_name(123)) == "Jack"
        assert ask(path, lambda bank: bank.customer_name(124)) is None
        balance = ask(path, lambda bank: bank.balance_cents(123, include_pending=True))
        assert balance == 12350
        assert len(ask(path, lambda bank: bank.recent_payments(123, 99))) == 3
    assert ask(path, lambda bank: bank.block_card(123, "call-1")) is True


def test_a_payment_that_was_deleted_does_not_come_back(path: Path) -> None:
    ask(path, lambda bank: bank.customer_name(123))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM payments WHERE city = 'Lisbon'")
        connection.commit()
    assert len(ask(path, lambda bank: bank.recent_payments(123, 99))) == 2


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_database(path)
    broken = tmp_path / "broken.sql"
    script = database.PAYMENTS_SQL.read_text(encoding="utf-8")
    broken.write_text(script.replace("PRAGMA user_version", "NONSENSE"), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(database, "PAYMENTS_SQL", broken)
        with pytest.raises(sqlite3.OperationalError):
            ask(path, lambda bank: bank.customer_name(123))
    with closing(sqlite3.connect(path)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "payments" not in tables
    assert len(ask(path, lambda bank: bank.recent_payments(123, 99))) == 3


@pytest.mark.parametrize(
    ("cents", "text"), [(0, "$0.00"), (5, "$0.05"), (-5, "-$0.05"), (123456, "$1234.56")]
)
def test_amounts_are_told_in_dollars(cents: int, text: str) -> None:
    assert dollars(cents) == text
