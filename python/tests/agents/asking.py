"""Python tools that ask Rust tools of the same run."""

import asyncio
import math
from typing import Any

from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ToolFailed

from axon_runner import RustToolRefused, call_rust, call_rust_and_wait

PENDING = {"include_pending": True}


async def total() -> str:
    """Adds up two balances."""
    one = await call_rust("balance", PENDING)
    return f"{one} and {await call_rust('balance', {'include_pending': False})}"


def waits() -> str:
    """Asks from a thread."""
    return f"got {call_rust_and_wait('balance', PENDING)}"


def own_loop() -> str:
    """Asks from an event loop of its own."""
    return f"got {asyncio.run(call_rust('balance', PENDING))}"


async def at_once() -> list[Any]:
    """Asks twice at once."""
    return await asyncio.gather(*(call_rust("balance", PENDING) for _ in range(2)))


async def stops_the_loop() -> str:
    """Would wait on the event loop."""
    return str(call_rust_and_wait("balance", PENDING))


async def forgives() -> str:
    """Goes on without the Rust tool."""
    try:
        return str(await call_rust("balance", PENDING))
    except (ModelRetry, ToolFailed) as error:
        return f"without: {error}"


async def asks_for(name: str, args: dict[str, Any]) -> str:
    """Asks for any tool, and tells how that was refused."""
    try:
        return str(await call_rust(name, args))
    except RustToolRefused as error:
        return f"refused: {error}"


async def asks_with_nan() -> str:
    """Asks with what JSON cannot carry."""
    return str(await call_rust("balance", {"include_pending": math.nan}))


_left: list[asyncio.Task[Any]] = []


async def leaves_it() -> str:
    """Has somebody ask who is still there when the tool is over."""

    async def later() -> Any:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await call_rust("balance", PENDING)

    _left.append(asyncio.ensure_future(later()))
    return "left"


async def what_was_left() -> str:
    """Tells what became of it."""
    try:
        return str(await _left.pop())
    except RustToolRefused as error:
        return f"refused: {error}"
