"""The tools of a spec as one toolset: Rust runs some of them, Python functions are the others."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
from pydantic_ai import RunContext, ToolDefinition, _utils
from pydantic_ai.exceptions import ModelRetry, UserError
from pydantic_ai.tools import Tool
from pydantic_ai.toolsets.abstract import AbstractToolset, ToolsetTool
from pydantic_ai.toolsets.wrapper import WrapperToolset

from axon_runner.attempt import Attempt, PythonCall, current_attempt
from axon_runner.launch import ConfigError, Effect
from axon_runner.registry import Registry
from axon_runner.schemas import SchemaArguments, SchemaCheck
from axon_runner.wire import ToolSpec

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

# Private, so it may be missing elsewhere in the tested range; a cancelled call then waits.
_abandon_threads: Callable[[], AbstractContextManager[None]] = getattr(
    _utils, "abandon_threads_on_cancel", nullcontext
)


class SpecTool(ABC):
    """One tool: what the model is told about it, how arguments are checked, who runs it."""

    definition: ToolDefinition
    arguments: Any
    max_retries: int | None

    @abstractmethod
    async def call(self, attempt: Attempt, args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        """Runs the tool and returns its result."""


class RustTool(SpecTool):
    """A tool that Rust runs: the call goes down the stream, the result comes as a request."""

    def __init__(self, spec: ToolSpec, default_timeout: float | None) -> None:
        parameters: dict[str, Any] = dict(spec.parameters or _NO_PARAMETERS)
        self.definition = _definition(spec, spec.description, parameters, default_timeout)
        self.arguments = SchemaArguments(_check(spec))
        self.max_retries = spec.max_retries

    async def call(self, attempt: Attempt, args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        return await attempt.ask_rust(ctx, args, self.definition.timeout)


class PythonTool(SpecTool):
    """A registered Python function."""

    def __init__(
        self, spec: ToolSpec, function: Any, effect: Effect, default_timeout: float | None
    ) -> None:
        tool = function_tool(function, spec.name, spec.description)
        schema = tool.function_schema
        parameters: dict[str, Any] = dict(spec.parameters or schema.json_schema)
        self.definition = _definition(spec, tool.description, parameters, default_timeout)
        self.arguments = (
            schema.validator
            if spec.parameters is None
            else SchemaArguments(_check(spec), then=schema.validator)
        )
        self.max_retries = spec.max_retries
        self._schema = schema
        self._effect: Effect = spec.effect or effect

    async def call(self, attempt: Attempt, args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        return await attempt.call_python(ctx, args, self._run, PythonCall(self._effect))

    async def _run(self, args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        timeout = self.definition.timeout
        with _abandon_threads():
            if timeout is None:
                return await self._schema.call(args, ctx)
            try:
                with anyio.fail_after(timeout) as scope:
                    return await self._schema.call(args, ctx)
            except TimeoutError:
                if not scope.cancelled_caught:
                    raise
                raise ModelRetry(f"Timed out after {timeout:g} seconds.") from None


class SpecToolset(AbstractToolset[Any]):
    """Every tool of a spec; the state of a call is in the attempt, never here."""

    def __init__(self, tools: list[SpecTool]) -> None:
        self._tools = {tool.definition.name: tool for tool in tools}
        if len(self._tools) != len(tools):
            raise ConfigError("two tools of the spec have the same name")
        self._by_retries: dict[int, dict[str, ToolsetTool[Any]]] = {}

    @property
    def id(self) -> str | None:
        return "axon"

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        default = ctx.max_retries
        tools = self._by_retries.get(default)
        if tools is None:
            tools = self._by_retries[default] = {
                name: ToolsetTool(
                    toolset=self,
                    tool_def=tool.definition,
                    max_retries=default if tool.max_retries is None else tool.max_retries,
                    args_validator=tool.arguments,
                )
                for name, tool in self._tools.items()
            }
        return tools

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        return await self._tools[name].call(current_attempt.get(), tool_args, ctx)


class ObservedToolset(WrapperToolset[Any]):
    """The tools of an agent defined in Python: same events and failures, no permits."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        if isinstance(tool.toolset, SpecToolset):
            return await super().call_tool(name, tool_args, ctx, tool)

        async def run(args: dict[str, Any], ctx: RunContext[Any]) -> Any:
            return await super(ObservedToolset, self).call_tool(name, args, ctx, tool)

        call = PythonCall("once", permit=False)
        return await current_attempt.get().call_python(ctx, tool_args, run, call)


def build(
    specs: tuple[ToolSpec, ...], registry: Registry, default_timeout: float | None
) -> SpecToolset | None:
    """Returns the toolset of `specs`, or nothing when there are none.

    Raises `ConfigError` for a target that is not registered or a schema that cannot be used.
    """
    tools: list[SpecTool] = []
    for spec in specs:
        host, _, target = spec.target.partition(":")
        if host == "rust":
            tools.append(RustTool(spec, default_timeout))
        else:
            entry = registry.get("tool", target)
            tools.append(PythonTool(spec, entry.value, entry.effect, default_timeout))
    return SpecToolset(tools) if tools else None


def function_tool(function: Any, name: str | None = None, description: str | None = None) -> Tool:
    """Returns the pydantic-ai tool of a plain function.

    Raises `ConfigError` when its signature cannot be a tool's.
    """
    try:
        return Tool(function, name=name, description=description)
    except (UserError, TypeError, ValueError, NameError, AttributeError) as error:
        raise ConfigError(f"{inspect.unwrap(function)!r} cannot be a tool: {error}") from error


def _check(spec: ToolSpec) -> SchemaCheck | None:
    if spec.parameters is None:
        return None
    return SchemaCheck(dict(spec.parameters), f"the parameters of tool {spec.name}")


def _definition(
    spec: ToolSpec, description: str | None, parameters: dict[str, Any], timeout: float | None
) -> ToolDefinition:
    return ToolDefinition(
        name=spec.name,
        description=description,
        parameters_json_schema=parameters,
        strict=spec.strict,
        sequential=spec.sequential,
        timeout=spec.timeout if spec.timeout is not None else timeout,
        kind="unapproved" if spec.requires_approval else "function",
    )
