"""Runs one registered Python tool outside any run."""

from __future__ import annotations

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
from axon_runner.threads import Caller, Threads
from axon_runner.toolset import function_tool
from axon_runner.wire import ToolCall


class InvalidArguments(Exception):
    """The arguments do not fit the tool."""


class NotRegistered(ConfigError):
    """The target is not a registered tool."""


async def call(registry: Registry, target: str, request: ToolCall, threads: Threads) -> Any:
    """Returns what the tool `target` returns.

    Raises `InvalidArguments`, `NotRegistered`, `ConfigError`, and whatever the tool raises.
    """
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
        # Whoever hangs up leaves the call behind, which has no run.
        with threads.used_by(Caller(None, lambda: False, tool.name)), under_way(_call(request)):
            return await tool.function_schema.call(args, ctx)


def _call(request: ToolCall) -> CurrentCall:
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
