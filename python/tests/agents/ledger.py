"""Tools that write down the key of their call, what knows of those, and an agent of such."""

import asyncio
import threading
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from scripted import model

from axon_runner import Done, NotDone, current_call


def _write(path: str) -> str:
    call = current_call()
    with open(path, "a") as ledger:
        ledger.write(f"{call.idempotency_key}\n")
    return call.idempotency_key


def deposit(path: str) -> str:
    """Writes its key into a file, in a thread."""
    return _write(path)


async def deposit_async(path: str) -> str:
    """Writes its key into a file."""
    await asyncio.sleep(0)
    return _write(path)


def deposit_for(ctx: RunContext[Any], path: str) -> str:
    """Writes its key into a file, and knows of the run."""
    assert ctx.tool_call_id == current_call().tool_call_id
    return _write(path)


def pays(path: str, amount: int) -> str:
    """Writes an amount into a file."""
    with open(path, "a") as ledger:
        ledger.write(f"{amount}\n")
    return f"paid {amount}"


def elsewhere() -> str:
    """Is done elsewhere."""
    raise CallDeferred


def pays_if_approved(ctx: RunContext[Any]) -> str:
    """Asks before it does anything."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired(metadata={"why": "money"})
    return "paid"


def deposited(key: str, args: dict[str, Any]) -> Done | NotDone:
    """Looks the key up, in a thread."""
    assert threading.current_thread() is not threading.main_thread()
    ledger = Path(args["path"])
    written = ledger.read_text().split("\n") if ledger.exists() else []
    return Done({"key": key}) if key in written else NotDone()


async def deposited_for(key: str, args: dict[str, Any], deps: Any) -> Done | None:
    """Knows only of what the deps tell."""
    await asyncio.sleep(0)
    return Done(deps["name"]) if deps is not None else None


def knows_its_deps(key: str, args: dict[str, Any], deps: Any) -> Done:
    """Tells what its deps are."""
    return Done(type(deps).__name__)


def unreachable(key: str, args: dict[str, Any]) -> None:
    """Raises."""
    raise ConnectionError("the bank is closed")


def vague(key: str, args: dict[str, Any]) -> bool:
    """Gives no verdict."""
    return True


def unsendable(key: str, args: dict[str, Any]) -> Done:
    """Finds what JSON cannot carry."""
    return Done(object())


def curt(key: str) -> None:
    """Cannot be called."""


agent = Agent(model, name="ledger")
agent.tool_plain(deposit)


@agent.tool_plain
def look_up(path: str) -> int:
    """Counts the lines of a file."""
    with open(path) as ledger:
        return len(ledger.readlines())
