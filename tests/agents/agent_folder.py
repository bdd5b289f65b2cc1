"""An agent as its folder describes it, built and run by pydantic-ai alone."""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema_rs
from pydantic_ai import Agent, DeferredToolRequests, ModelMessage, StructuredDict, Tool
from pydantic_ai.messages import ToolCallPart, ToolReturnPart

AGENTS = Path(__file__).parents[2] / "agents"


@dataclass(frozen=True)
class AgentFolder:
    """One folder of `agents/`."""

    name: str

    @property
    def config(self) -> dict[str, Any]:
        return tomllib.loads((AGENTS / self.name / "agent.toml").read_text(encoding="utf-8"))

    @property
    def output_schema(self) -> dict[str, Any]:
        file = AGENTS / self.name / self.config["output"]["schema"]
        schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return schema

    @property
    def model(self) -> str:
        target: str = self.config["model"]
        return target.removeprefix("${AXON_MODEL:-python:").removesuffix("}")

    @property
    def targets(self) -> list[str]:
        """Every `module:attribute` that the file names."""
        config = self.config
        tools = config.get("tools", [])
        return [
            self.model,
            *config.get("dynamic_instructions", []),
            *([config["deps"]["factory"]] if "deps" in config else []),
            *(tool[key] for tool in tools for key in ("python", "reconcile") if key in tool),
        ]

    def agent(self, **changes: Any) -> Agent[Any, Any]:
        """Returns the agent; `changes` replace what the folder says."""
        config = self.config
        settings: dict[str, Any] = {
            "output_type": [StructuredDict(self.output_schema), DeferredToolRequests],
            "tools": [_tool(tool) for tool in config.get("tools", [])],
            **changes,
        }
        dynamic = [resolve(target) for target in config.get("dynamic_instructions", [])]
        return Agent(
            resolve(self.model),
            deps_type=object,
            instructions=[config["instructions"], *dynamic],
            **settings,
        )

    def valid(self, output: Any) -> dict[str, Any]:
        """Returns the output, which has to fit the agent's schema."""
        jsonschema_rs.validate(self.output_schema, output)
        answer: dict[str, Any] = output
        return answer


def resolve(target: str) -> Any:
    """Imports `module:attribute`."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _tool(config: dict[str, Any]) -> Tool[Any]:
    return Tool(
        resolve(config["python"]),
        name=config["name"],
        requires_approval=config.get("requires_approval", False),
    )


def tool_calls(messages: Iterable[ModelMessage]) -> list[ToolCallPart]:
    """Returns every call of the conversation."""
    parts = (part for message in messages for part in message.parts)
    return [part for part in parts if isinstance(part, ToolCallPart)]


def tools_called(messages: Iterable[ModelMessage]) -> list[str]:
    """Returns which tools were called, in order."""
    return [call.tool_name for call in tool_calls(messages)]


def tool_return(messages: Iterable[ModelMessage], tool: str) -> Any:
    """Returns what the last call of the tool gave back."""
    parts = [part for message in messages for part in message.parts]
    returns = [part for part in parts if isinstance(part, ToolReturnPart)]
    return [part.content for part in returns if part.tool_name == tool][-1]
