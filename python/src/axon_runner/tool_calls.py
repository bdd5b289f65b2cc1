"""Runs registered Python tools outside any run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json

from axon_runner.call import CurrentCall, under_way
from axon_runner.deps import Deps
from axon_runner.faults import faults
from axon_runner.launch import ConfigError
from axon_runner.registry import Registry
from axon_runner.threads import Caller, Threads, told
from axon_runner.toolset import function_tool
from axon_runner.wire import ToolCall


class InvalidArguments(Exception):
    """The arguments do not fit the tool."""


class NotRegistered(ConfigError):
    """The target is not a registered tool."""


@dataclass(frozen=True, eq=False, slots=True)
class _Direct:
    caller: Caller
    task: asyncio.Task[Any]
    began: float


class DirectCalls:
    """The calls under way."""

    def __init__(self, registry: Registry, threads: Threads) -> None:
        self._registry = registry
        self._threads = threads
        self._under_way: set[_Direct] = set()

    async def call(self, target: str, request: ToolCall) -> Any:
        """Returns what the tool `target` returns.

        Raises `InvalidArguments`, `NotRegistered`, `ConfigError`, and whatever the tool raises.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        # Whoever hangs up leaves the call behind, which has no run.
        name = target.rpartition(":")[2]
        caller = Caller(None, lambda: False, name, request.tool_call_id)
        direct = _Direct(caller, task, time.monotonic())
        self._under_way.add(direct)
        try:
            return await _call(self._registry, target, request, (self._threads, caller))
        finally:
            self._under_way.discard(direct)

    def cancel(self, call_id: str) -> bool:
        """Cancels a call, unless it is; says whether it is under way."""
        found = [direct for direct in self._under_way if direct.caller.direct_call == call_id]
        for direct in found:
            # A second time would break what user code cleans up meanwhile.
            if not direct.task.cancelling():
                direct.task.cancel()
        return bool(found)

    def unfinished(self) -> list[dict[str, Any]]:
        """Returns the calls that were cancelled and have not ended."""
        now = time.monotonic()
        return [
            told(direct.caller, now - direct.began)
            for direct in self._under_way
            if direct.task.cancelling()
        ]


async def _call(
    registry: Registry, target: str, request: ToolCall, within: tuple[Threads, Caller]
) -> Any:
    threads, caller = within
    try:
        function = registry.get("tool", target).value
    except ConfigError as error:
        raise NotRegistered(str(error)) from None
    tool = function_tool(function)
    try:
        args = tool.function_schema.validator.validate_json(to_json(request.args))
    except ValidationError as error:
        raise InvalidArguments(faults(error)) from None
    deps = deps_of(registry, request.deps_factory) if tool.takes_ctx else Deps()
    async with deps.made(deps.parse(request.deps)) as made:
        ctx: RunContext[Any] = RunContext(
            deps=made,
            model=TestModel(),
            usage=RunUsage(),
            tool_name=tool.name,
            tool_call_id=request.tool_call_id,
        )
        with threads.used_by(caller), under_way(_made_up(request)):
            return await tool.function_schema.call(args, ctx)


def _made_up(request: ToolCall) -> CurrentCall:
    """Makes up a run, whose key no other call has unless the caller names one."""
    return CurrentCall(f"direct-{uuid4().hex}", 0, request.tool_call_id or "direct", 1)


def deps_of(registry: Registry, named: str | None) -> Deps:
    """Returns the deps of what is called outside any run: of the factory `named`, of the only one
    there is, or as the agent defined in Python types them.

    Raises `ConfigError` when there is more than one factory and none is named.
    """
    if named is not None:
        return Deps(registry.get("deps_factory", named).value)
    factories = registry.find("deps_factory")
    if len(factories) > 1:
        raise ConfigError("this runner has more than one deps factory; name one as deps_factory")
    if factories:
        return Deps(factories[0][1].value)
    return Deps(deps_type=registry.agent.deps_type if registry.agent is not None else None)
