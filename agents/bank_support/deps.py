"""What the agent's Python functions get in `ctx.deps`, and how it is made from a caller's JSON."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from typing_extensions import TypedDict

from bank_support.database import BankDatabase, database_path


class SupportRequest(TypedDict):
    """What callers give, as `[deps] schema` in `agent.toml` says."""

    customer_id: int


@dataclass(frozen=True)
class SupportDeps:
    """The customer who asks, and the bank's open database."""

    customer_id: int
    customer_name: str
    database: BankDatabase


class CustomerNotFound(LookupError):
    """The bank has no customer with the number that the caller gave."""

    def __init__(self, customer_id: int) -> None:
        super().__init__(
            f"no customer {customer_id} in the bank's database;"
            " its customers come from bank_support/data/customers.sql"
        )
        self.customer_id = customer_id


@asynccontextmanager
async def make(request: SupportRequest) -> AsyncIterator[SupportDeps]:
    """Opens the bank's database for one run, and closes it after."""
    customer_id = request["customer_id"]
    database = await BankDatabase.open(database_path())
    try:
        name = await database.customer_name(customer_id)
        if name is None:
            raise CustomerNotFound(customer_id)
        yield SupportDeps(customer_id, name, database)
    finally:
        database.close()
