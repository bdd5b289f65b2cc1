"""Tools that read and change the state of their run."""

from __future__ import annotations

import asyncio

from pydantic_ai import ModelRetry, RunContext

from axon_runner import run_state


def add(item: str) -> int:
    """A sync tool, in a thread."""
    items = run_state().setdefault("items", [])
    items.append(item)
    return len(items)


async def drop(key: str) -> bool:
    """An async tool."""
    await asyncio.sleep(0)
    return run_state().pop(key, None) is not None


def spoil() -> str:
    """Puts into the state what has no JSON form."""
    run_state()["bad"] = object()
    return "spoilt"


def asks_again() -> str:
    """Changes the state and has the model call again."""
    run_state()["asked"] = True
    raise ModelRetry("again")


def leak(ctx: RunContext[dict[str, str]]) -> str:
    """Fails with the secret in its error."""
    raise RuntimeError("refused with " + ctx.deps["key"])
