"""JSON Schemas of what goes over the wire, and of an agent that is defined in Python."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic_ai import Agent
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import AgentStreamEvent, ModelMessagesTypeAdapter
from pydantic_ai.models import Model
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.toolsets.abstract import AbstractToolset

from axon_runner.models import name_of
from axon_runner.wire import Spec

_UNDERIVABLE = (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, UserError, NameError)


def wire(agent: Any) -> dict[str, Any]:
    """Returns the schemas of specs, events and messages, and what `agent` says of itself."""
    return {**_protocol(), "agent": None if agent is None else _agent(agent)}


@cache
def _protocol() -> dict[str, Any]:
    return {
        "spec": Spec.model_json_schema(),
        "events": TypeAdapter(AgentStreamEvent).json_schema(mode="serialization"),
        "messages": ModelMessagesTypeAdapter.json_schema(mode="serialization"),
    }


def _agent(agent: Any) -> dict[str, Any]:
    model = agent.model
    return {
        "name": agent.name,
        "model": name_of(model) if isinstance(model, Model) else model,
        "instructions": _has_instructions(agent),
        "tools": _tools(agent),
        "output": _output(agent),
        "deps": _deps(agent.deps_type),
    }


def _has_instructions(agent: Any) -> bool:
    names = ("_instructions", "_system_prompts", "_system_prompt_functions")
    return isinstance(agent, Agent) and any(getattr(agent, name, None) for name in names)


def _tools(agent: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def visit(toolset: AbstractToolset[Any]) -> None:
        if isinstance(toolset, FunctionToolset):
            found.extend(
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.function_schema.json_schema,
                }
                for tool in toolset.tools.values()
            )

    for toolset in agent.toolsets:
        toolset.apply(visit)
    return found


def _output(agent: Any) -> Any:
    try:
        return agent.output_json_schema()
    except _UNDERIVABLE:
        return None


def _deps(deps_type: Any) -> Any:
    if deps_type in (type(None), object, Any):
        return None
    try:
        return TypeAdapter(deps_type).json_schema()
    except _UNDERIVABLE:
        return None
