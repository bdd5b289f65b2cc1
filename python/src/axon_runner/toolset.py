"""The tools of a spec: Rust runs some of them, Python functions are the others.

They are tools of the agent's own function toolset: a second toolset would cost each step of a
run a task group. The state of a call is in the attempt, never here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from pydantic_ai import RunContext
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import ApprovalRequired, ModelRetry, UserError
from pydantic_ai.tools import Tool
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_ai.toolsets.wrapper import WrapperToolset

from axon_runner.attempt import current_attempt
from axon_runner.launch import ConfigError
from axon_runner.registry import Registered, Registry
from axon_runner.schemas import SchemaArguments, SchemaCheck
from axon_runner.wire import ToolSpec

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def build(
    specs: tuple[ToolSpec, ...], registry: Registry, default_timeout: float | None
) -> list[Tool]:
    """Returns the tools that a spec adds.

    Raises `ConfigError` for a target that is not registered or a schema that cannot be used.
    """
    tools: dict[str, Tool] = {}
    for spec in specs:
        host, _, target = spec.target.partition(":")
        seconds = spec.timeout if spec.timeout is not None else default_timeout
        if spec.name in tools:
            raise ConfigError(f"two tools of the spec have the name {spec.name!r}")
        if host == "module":
            continue
        if host in ("rust", "agent"):
            tools[spec.name] = _rust(spec, seconds)
        else:
            tools[spec.name] = _python(spec, registry.get("tool", target), seconds)
    return list(tools.values())


def own(specs: tuple[ToolSpec, ...], agent: AbstractAgent[Any, Any]) -> dict[str, ToolSpec]:
    """Returns what a spec says of the tools that an agent defined in Python brings itself.

    Raises `ConfigError` for a tool that it does not bring, as far as that can be known.
    """
    said = {spec.name: spec for spec in specs if spec.target == "module"}
    if said and all(isinstance(toolset, FunctionToolset) for toolset in agent.toolsets):
        brought = {name for toolset in agent.toolsets for name in getattr(toolset, "tools", ())}
        if unknown := sorted(said.keys() - brought):
            names = ", ".join(sorted(brought)) or "none"
            raise ConfigError(f"the agent has no tool {', '.join(unknown)}; it brings: {names}")
    return said


def function_tool(function: Any, name: str | None = None, description: str | None = None) -> Tool:
    """Returns the pydantic-ai tool of a plain function.

    Raises `ConfigError` when its signature cannot be a tool's.
    """
    try:
        return Tool(function, name=name, description=description)
    except (UserError, TypeError, ValueError, NameError, AttributeError) as error:
        raise ConfigError(f"{inspect.unwrap(function)!r} cannot be a tool: {error}") from error


def _rust(spec: ToolSpec, seconds: float | None) -> Tool:
    """A tool that Rust runs, and Rust times out."""

    async def ask(ctx: RunContext[Any], /, **args: Any) -> Any:
        return await current_attempt.get().ask_rust(ctx, args, seconds)

    parameters: dict[str, Any] = dict(spec.parameters or _NO_PARAMETERS)
    return _tool(spec, ask, spec.description, parameters, SchemaArguments(_check(spec)))


def _python(spec: ToolSpec, entry: Registered, seconds: float | None) -> Tool:
    """A registered function, its arguments from its hints and, if given, the spec's schema."""
    own = function_tool(entry.value, spec.name, spec.description)
    schema = own.function_schema
    effect = spec.effect or entry.effect

    async def run(args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        if seconds is None:
            return await schema.call(args, ctx)
        try:
            with anyio.fail_after(seconds) as scope:
                return await schema.call(args, ctx)
        except TimeoutError:
            if not scope.cancelled_caught:
                raise
            raise ModelRetry(f"Timed out after {seconds:g} seconds.") from None

    async def call(ctx: RunContext[Any], /, **args: Any) -> Any:
        return await current_attempt.get().call_python(ctx, args, run, effect)

    if spec.parameters is None:
        return _tool(spec, call, own.description, schema.json_schema, schema.validator)
    arguments = SchemaArguments(_check(spec), then=schema.validator)
    return _tool(spec, call, own.description, dict(spec.parameters), arguments)


def _tool(
    spec: ToolSpec,
    function: Callable[..., Any],
    description: str | None,
    parameters: dict[str, Any],
    arguments: Any,
) -> Tool:
    tool = Tool.from_schema(
        function, spec.name, description, parameters, takes_ctx=True, sequential=spec.sequential
    )
    tool.function_schema.validator = arguments
    tool.strict = spec.strict
    tool.max_retries = spec.max_retries
    tool.requires_approval = spec.requires_approval
    return tool


def _check(spec: ToolSpec) -> SchemaCheck | None:
    if spec.parameters is None:
        return None
    return SchemaCheck(dict(spec.parameters), f"the parameters of tool {spec.name}")


class AddedToolset(FunctionToolset[Any]):
    """The tools that a spec adds to an agent defined in Python."""


@dataclass
class ObservedToolset(WrapperToolset[Any]):
    """The tools of an agent defined in Python, with what the spec says of them in `own`."""

    own: Mapping[str, ToolSpec]

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        if isinstance(tool.toolset, AddedToolset):
            return await super().call_tool(name, tool_args, ctx, tool)

        async def run(args: dict[str, Any], ctx: RunContext[Any]) -> Any:
            return await super(ObservedToolset, self).call_tool(name, args, ctx, tool)

        spec = self.own.get(name)
        if spec is not None and spec.requires_approval and not ctx.tool_call_approved:
            raise ApprovalRequired
        effect = spec.effect if spec is not None and spec.effect is not None else "once"
        return await current_attempt.get().call_python(ctx, tool_args, run, effect)
