"""Deps factories and lifespans of the test agents."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from axon_runner import Done


@dataclass
class Bank:
    """Live deps."""

    customer: int
    made_by: str


@dataclass
class Given:
    """The deps JSON, typed."""

    customer_id: int


def plain(given: dict[str, Any]) -> Bank:
    """Makes deps."""
    return Bank(given["customer_id"], "plain")


async def coroutine(given: Given) -> Bank:
    """Makes deps from a typed argument."""
    return Bank(given.customer_id, "coroutine")


@asynccontextmanager
async def in_context(given: dict[str, Any]) -> AsyncIterator[Bank]:
    """Makes deps and takes them down."""
    print("deps up")
    try:
        yield Bank(given["customer_id"], "async context")
    finally:
        print("deps down")


@contextmanager
def sync_context(given: dict[str, Any]) -> Iterator[Bank]:
    """Makes deps and takes them down."""
    yield Bank(given["customer_id"], "context")
    print("sync deps down")


@contextmanager
def cannot_close(given: dict[str, Any]) -> Iterator[Bank]:
    """Makes deps and fails to take them down."""
    yield Bank(1, "doomed")
    raise OSError("commit failed")


def nothing() -> Bank:
    """Makes deps from nothing."""
    return Bank(0, "nothing")


def broken(given: Any) -> Bank:
    """Fails."""
    raise ConnectionError("no database")


def exits(given: Any) -> Bank:
    """Tries to end the process."""
    sys.exit("no deps")


@contextmanager
def exits_at_the_end(given: Any) -> Iterator[Bank]:
    """Makes deps and tries to end the process when they are taken down."""
    yield Bank(1, "doomed")
    sys.exit("no end")


def exits_in_validation(given: Annotated[Any, BeforeValidator(exits)]) -> Bank:
    """Has an argument whose validation tries to end the process."""
    return Bank(1, "never")


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Lives as long as the runner."""
    print("lifespan up")
    yield
    print("lifespan down")


def no_lifespan() -> int:
    """Is no context manager."""
    return 1


@asynccontextmanager
async def lifespan_that_exits() -> AsyncIterator[None]:
    """Tries to end the process when it is left."""
    yield
    sys.exit("lifespan over")


def no_lifespan_at_all() -> None:
    """Tries to end the process when it is entered."""
    sys.exit("no lifespan")


async def waits(file: str) -> str:
    """Takes until the file is there."""
    while not there(file):  # noqa: ASYNC110 - nothing tells when a file appears
        await asyncio.sleep(0.01)
    return file


def there(file: str) -> bool:
    """Says whether the file is there."""
    return os.path.exists(file)


def knows(key: str, args: dict[str, Any], deps: Bank) -> Done:
    """Knows what became of a call from its deps."""
    return Done([deps.customer, deps.made_by])
