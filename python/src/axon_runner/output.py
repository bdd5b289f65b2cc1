"""What the model's answer must look like, from a JSON Schema or as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_ai import NativeOutput, PromptedOutput, RunContext, StructuredDict, ToolOutput
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import PrepareOutputTools
from pydantic_ai.exceptions import UserError
from pydantic_ai.tools import DeferredToolRequests, ToolDefinition
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from axon_runner.launch import ConfigError
from axon_runner.schemas import SchemaCheck
from axon_runner.wire import OutputSpec

_PLACEHOLDER: dict[str, Any] = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True)
class Output:
    """What an agent is built with; `text` says that the answer is a string."""

    type: Any
    text: bool
    capabilities: tuple[PrepareOutputTools[Any], ...] = ()


def build(spec: OutputSpec | None) -> Output:
    """Returns the output of `spec`; a run may always pause for approvals instead.

    Raises `ConfigError` for a schema that no answer can be asked by.
    """
    if spec is None or spec.mode == "text":
        return Output([str, DeferredToolRequests], text=True)
    if spec.json_schema is None:
        raise ConfigError(f"output of mode {spec.mode!r} needs a schema")
    schema: dict[str, Any] = dict(spec.json_schema)
    if schema.get("type") != "object":
        raise ConfigError("the output schema must be of type object; wrap other values in one")
    check = SchemaCheck(schema, "the output schema")
    try:
        answer = _checked(StructuredDict(schema, spec.name, spec.description), check)
    except (UserError, KeyError):  # KeyError: a reference to the whole schema, "#"
        return _recursive(spec, schema, check)
    return Output([_marked(answer, spec), DeferredToolRequests], text=False)


def pausing(agent: AbstractAgent[Any, Any]) -> Any:
    """Returns the output type of an agent defined in Python so that its runs can pause.

    Raises `ConfigError` for one whose output type cannot be changed.
    """
    own = agent.output_type
    if own is DeferredToolRequests or DeferredToolRequests in _alternatives(own):
        return own
    if getattr(agent, "_output_validators", None):
        raise ConfigError(
            "a tool needs approval, and the output validators of the agent do not let its output"
            " type be changed: add DeferredToolRequests to the output type in Python"
        )
    return [own, DeferredToolRequests]


def _alternatives(output_type: Any) -> tuple[Any, ...]:
    return tuple(output_type) if isinstance(output_type, (list, tuple)) else get_args(output_type)


def _marked(answer: Any, spec: OutputSpec) -> Any:
    match spec.mode:
        case "tool":
            return ToolOutput(
                answer, name=spec.name, description=spec.description, strict=spec.strict
            )
        case "native":
            return NativeOutput(
                answer, name=spec.name, description=spec.description, strict=spec.strict
            )
        case "prompted":
            return PromptedOutput(answer, name=spec.name, description=spec.description)
        case _:
            return answer


def _recursive(spec: OutputSpec, schema: dict[str, Any], check: SchemaCheck) -> Output:
    """Asks for a recursive schema by an output tool: pydantic-ai cannot inline such a schema."""
    if spec.mode not in ("auto", "tool"):
        raise ConfigError(f"a recursive output schema cannot use mode {spec.mode!r}; use 'tool'")

    async def replace(ctx: RunContext[Any], tools: list[ToolDefinition]) -> list[ToolDefinition]:
        for tool in tools:
            tool.parameters_json_schema = schema
        return tools

    placeholder = StructuredDict(dict(_PLACEHOLDER), spec.name, spec.description)
    marked = _marked(_checked(placeholder, check), spec.model_copy(update={"mode": "tool"}))
    return Output(
        [marked, DeferredToolRequests], text=False, capabilities=(PrepareOutputTools(replace),)
    )


def _checked(answer: Any, check: SchemaCheck) -> Any:
    """Returns a type like `answer` whose validation also asks the JSON Schema.

    A fault is a validation error, so that pydantic-ai asks the model again.
    """

    def validate(value: dict[str, Any]) -> dict[str, Any]:
        if faults := check.faults(value):
            raise PydanticCustomError("json_schema", "{faults}", {"faults": faults})
        return value

    class Checked(answer):  # type: ignore[misc]
        @classmethod
        def __get_pydantic_core_schema__(
            cls, source_type: Any, handler: GetCoreSchemaHandler
        ) -> CoreSchema:
            return core_schema.no_info_after_validator_function(
                validate, answer.__get_pydantic_core_schema__(source_type, handler)
            )

    return Checked
