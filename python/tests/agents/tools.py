"""Tools of the test agents."""

import asyncio
import contextlib
import logging
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic_ai import BinaryContent, ModelRetry, RunContext, ToolReturn
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed

log = logging.getLogger("bank.tools")


def balance(include_pending: bool) -> str:
    """Returns the customer's current balance."""
    return "$123.45" if include_pending else "$100.00"


def count(path: str) -> int:
    """Appends a line to a file and returns how many there are."""
    with open(path, "a+") as file:
        file.write("called\n")
        file.seek(0)
        return len(file.readlines())


def boom() -> str:
    """Raises."""
    raise ValueError("Customer not found")


def leave() -> str:
    """Tries to end the process."""
    sys.exit(3)


async def hang() -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return ""


def hang_in_thread() -> str:
    """Never returns, in a thread."""
    threading.Event().wait()
    return ""


def sleeps(path: str) -> str:
    """Sleeps in a thread until the file is there, and says so in another one."""
    _begin(path)
    while not os.path.exists(path):
        time.sleep(0.01)
    return "awake"


async def clings(path: str) -> str:
    """Goes on after a cancel, until the file is there."""
    _begin(path)
    while not _exists(path):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)
    return "released"


def _begin(path: str) -> None:
    with open(f"{path}.begun", "w"):
        pass


def _exists(path: str) -> bool:
    return os.path.exists(path)


async def sleeps_in_executor(path: str) -> str:
    """Does the same in a thread of the event loop's own executor."""
    return await asyncio.to_thread(sleeps, path)


async def leaves_a_thread(path: str) -> str:
    """Starts the same, and does not wait for it."""
    _left.append(asyncio.ensure_future(asyncio.to_thread(sleeps, path)))
    return "started"


_left: list[asyncio.Future[str]] = []


def stops_iterating() -> str:
    """Raises what no future can carry."""
    raise StopIteration("no more")


async def hang_in_executor() -> str:
    """Never returns, in a thread of the event loop's own executor."""
    await asyncio.to_thread(threading.Event().wait)
    return ""


def asks(ctx: RunContext[Any]) -> str:
    """Asks for approval."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired(metadata={"why": "money"})
    return "approved"


def defers() -> str:
    """Leaves its result to somebody else."""
    raise CallDeferred


def chatty() -> str:
    """Logs and prints."""
    log.info("hello %s", "log", extra={"customer": 123})
    print("hello stdout")
    try:
        raise ValueError("caught")
    except ValueError:
        log.exception("went wrong")
    return "done"


def not_a_number() -> float:
    """Returns what JSON cannot carry."""
    return math.nan


def unserialisable() -> object:
    """Returns what has no JSON form."""
    return object()


def once_unserialisable(path: str) -> object:
    """Writes a file, and returns what has no JSON form."""
    with open(path, "a") as file:
        file.write("called\n")
    return object()


def deep() -> Any:
    """Returns what is nested too deeply."""
    value: Any = 1
    for _ in range(70):
        value = [value]
    return value


def once_wrong(ctx: RunContext[Any]) -> str:
    """Asks the model to try again, once."""
    if ctx.retry == 0:
        raise ModelRetry("Not like this.")
    return f"retry {ctx.retry} of {ctx.max_retries}"


def fails() -> str:
    """Fails for good."""
    raise ToolFailed("The branch is closed.")


def leaks() -> str:
    """Puts a secret into an exception and a log record."""
    log.warning("key is %s", os.environ["BANK_KEY"])
    raise ValueError(f"cannot log in with {os.environ['BANK_KEY']}")


def spawns() -> int:
    """Starts a child process and returns its id."""
    return subprocess.Popen(["sleep", "600"], close_fds=False).pid


def holds_the_gil(path: str) -> str:
    """Starts a child, and then keeps the interpreter busy in C for ever."""
    import re

    child = subprocess.Popen(["sleep", "600"])
    with open(path, "w") as file:
        file.write(f"{child.pid}\n")
    re.match(r"(a+)+$", "a" * 60 + "b")
    return ""


def picture() -> ToolReturn:
    """Returns a value and content beside it."""
    return ToolReturn(
        return_value={"size": 3}, content=[BinaryContent(b"png", media_type="image/png")]
    )


def describes_deps(ctx: RunContext[Any]) -> str:
    """Returns the deps as the tool sees them."""
    return repr(ctx.deps)


@dataclass
class Point:
    """A type that arguments are converted to."""

    x: int
    y: int


def typed(point: Point) -> str:
    """Returns the type that it got."""
    return f"{type(point).__name__}({point.x + point.y})"


def surrogate() -> str:
    """Raises with text that JSON cannot carry."""
    raise ValueError("lone \ud800 surrogate")


def wrong_deep_inside() -> dict[str, Any]:
    """Returns one number among many that JSON cannot carry."""
    return {"accounts": [{"balance": 1.5}, {"balance": -math.inf}]}


def retries_with_a_surrogate() -> str:
    """Tells the model what JSON cannot carry."""
    raise ModelRetry("lone \ud800 surrogate")


def asks_with_an_object() -> str:
    """Asks for approval with metadata that has no JSON form."""
    raise ApprovalRequired(metadata={"why": object()})


def halves(amount: float) -> str:
    """Takes any number."""
    return str(amount / 2)


def anything(value: Any) -> str:
    """Takes any value."""
    return "taken"


def interrupted() -> str:
    """Interrupts."""
    raise KeyboardInterrupt


async def grouped() -> str:
    """Raises a group that is no `Exception`."""
    raise BaseExceptionGroup("both", [SystemExit(4), ValueError("no")])


async def _exits() -> NoReturn:
    sys.exit(5)


async def exits_in_a_task() -> str:
    """Tries to end the process from a task of its own."""
    await asyncio.create_task(_exits())
    return ""


async def exits_in_a_callback() -> str:
    """Tries to end the process from the event loop."""
    asyncio.get_running_loop().call_soon(sys.exit, 6)
    await asyncio.sleep(0)
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    return "still here"


class Rude(Exception):
    """Fails when it is asked what happened."""

    def __str__(self) -> str:
        sys.exit(7)


def rude() -> str:
    """Raises what cannot be shown."""
    raise Rude


async def floods(lines: int) -> str:
    """Logs much and never lets the event loop go."""
    for number in range(lines):
        log.info("line %d %s", number, "x" * 1000)
    return "done"


def floods_from_a_thread(lines: int) -> str:
    """Logs much from a thread."""
    for number in range(lines):
        log.info("line %d %s", number, "x" * 1000)
    return "done"


def closes_stdout() -> str:
    """Closes what the runner flushes at its end."""
    sys.stdout.close()
    return "closed"


def closes_the_control_socket() -> str:
    """Closes a descriptor of the runner and logs."""
    os.close(3)
    log.warning("nobody hears this")
    return "closed"


not_a_function = 5
