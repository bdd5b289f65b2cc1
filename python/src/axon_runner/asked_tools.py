"""The Rust tools that one run's Python tools may ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from axon_runner.encode import EncodeError, encode
from axon_runner.rust_tools import RustToolRefused
from axon_runner.schemas import SchemaCheck


@dataclass(frozen=True)
class _Tool:
    check: SchemaCheck | None
    seconds: float | None
    requires_approval: bool


class AskedTools:
    """Read from the spec of the run when the first tool asks: most never do."""

    def __init__(self, spec: Mapping[str, Any], json_depth: int) -> None:
        self._spec = spec
        # The event around them takes one level.
        self._depth = json_depth - 1
        self._tools: dict[str, _Tool] | None = None

    def admit(self, name: str, args: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
        """Returns the arguments as they are sent, and how long the tool may take.

        Raises `RustToolRefused` for a tool that cannot be asked, or not with these arguments.
        """
        if self._tools is None:
            self._tools = {tool["name"]: self._tool(tool) for tool in self._of_rust()}
        tool = self._tools.get(name)
        if tool is None:
            there = ", ".join(sorted(self._tools)) or "none"
            raise RustToolRefused(f"the agent has no Rust tool {name!r}; it has: {there}")
        if tool.requires_approval:
            raise RustToolRefused(f"a person has to approve {name}, so only the model can call it")
        try:
            plain = from_json(encode(dict(args), self._depth))
        except EncodeError as error:
            raise RustToolRefused(f"the arguments of {name} cannot be sent: {error}") from error
        if tool.check is not None and (faults := tool.check.faults(plain)):
            raise RustToolRefused(f"the arguments do not fit {name}: {faults}")
        return plain, tool.seconds

    def _of_rust(self) -> list[dict[str, Any]]:
        return [tool for tool in self._spec.get("tools", ()) if tool["target"] == "rust"]

    def _tool(self, tool: dict[str, Any]) -> _Tool:
        parameters = tool.get("parameters")
        what = f"the parameters of tool {tool['name']}"
        return _Tool(
            None if parameters is None else SchemaCheck(parameters, what),
            tool.get("timeout") or self._spec.get("tool_timeout"),
            tool.get("requires_approval", False),
        )
