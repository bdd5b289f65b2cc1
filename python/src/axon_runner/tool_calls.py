"""Runs one registered Python tool outside any run."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json

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
    deps = _deps(registry, request) if tool.takes_ctx else Deps()
    async with deps.made(deps.parse(request.deps)) as made:
        ctx: RunContext[Any] = RunContext(
            deps=made,
            model=TestModel(),
            usage=RunUsage(),
            tool_name=tool.name,
            tool_call_id=request.tool_call_id,
        )
        # Whoever hangs up leaves the call behind, which has no run.
        with threads.used_by(Caller(None, lambda: False, tool.name)):
            return await tool.function_schema.call(args, ctx)


def _deps(registry: Registry, request: ToolCall) -> Deps:
    if request.deps_factory is not None:
        return Deps(registry.get("deps_factory", request.deps_factory).value)
    factories = registry.find("deps_factory")
    if len(factories) > 1:
        raise ConfigError("this runner has more than one deps factory; name one as deps_factory")
    return Deps(factories[0][1].value) if factories else Deps()
