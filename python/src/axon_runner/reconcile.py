"""Asks the function of a tool what became of a call that was under way when something broke.

It is called as `reconcile(key, args)` or `reconcile(key, args, deps)`, sync or async, with the
idempotency key of the call, the arguments it was made with, and what the tools of the run get as
deps. It returns `Done(result)`, `NotDone()`, or `None` where it does not know.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from axon_runner.deps import Deps
from axon_runner.encode import encode_result
from axon_runner.launch import ConfigError
from axon_runner.registry import Registry
from axon_runner.threads import Caller, Threads
from axon_runner.tool_calls import NotRegistered, deps_of
from axon_runner.verdict import Done, NotDone
from axon_runner.wire import ReconcileRequest

Verdict = Done | NotDone | None


async def ask(
    registry: Registry, target: str, request: ReconcileRequest, threads: Threads
) -> Verdict:
    """Returns the verdict of the function `target`.

    Raises `NotRegistered`, `ConfigError` for what is no verdict, and whatever the function raises.
    """
    try:
        function: Callable[..., Any] = registry.get("reconcile", target).value
    except ConfigError as error:
        raise NotRegistered(str(error)) from None
    takes_deps = _takes_deps(function, target)
    deps = deps_of(registry, request.deps_factory) if takes_deps else Deps()
    async with deps.made(deps.parse(request.deps)) as made:
        given = (request.key, request.args, made) if takes_deps else (request.key, request.args)
        # Whoever hangs up leaves the call behind, which has no run.
        with threads.used_by(Caller(None, lambda: False, target)):
            verdict = await _call(function, *given)
    if verdict is None or isinstance(verdict, (Done, NotDone)):
        return verdict
    raise ConfigError(
        f"{target} returned a {type(verdict).__name__}: return Done(result), NotDone(), or None"
        " where it does not know"
    )


def encoded(target: str, verdict: Verdict, depth: int) -> bytes:
    """Returns `verdict` as JSON.

    Raises `ResultUnsendable` for a result that has no JSON form.
    """
    match verdict:
        case None:
            return b'{"outcome":"unknown"}'
        case NotDone():
            return b'{"outcome":"not_done"}'
        case Done(result):
            return b'{"outcome":"done","result":%b}' % encode_result(target, result, depth)


def _takes_deps(function: Callable[..., Any], target: str) -> bool:
    """Says whether the function takes deps.

    Raises `ConfigError` for one that cannot be called.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{target} cannot be called: {error}") from None
    for arguments in (3, 2):
        try:
            signature.bind(*[None] * arguments)
        except TypeError:
            continue
        return arguments == 3
    raise ConfigError(f"{target} has to take (key, args) or (key, args, deps), not {signature}")


async def _call(function: Callable[..., Any], *given: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*given)
    made = await asyncio.to_thread(function, *given)
    return await made if inspect.isawaitable(made) else made
