"""What the model's answer must look like, from a JSON Schema or as plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_ai import NativeOutput, PromptedOutput, RunContext, StructuredDict, ToolOutput
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import DeferredToolRequests, ToolDefinition
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from axon_runner.launch import ConfigError
from axon_runner.schemas import SchemaCheck, unsendable
from axon_runner.wire import OutputSpec

# The answer stands in an object of its own where it goes on, and in one more if Rust wraps it.
_DEPTH = 62
# What providers take as a name.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Output:
    """What an agent is built with; `text` says that the answer is a string."""

    type: Any
    text: bool
    capabilities: tuple[AbstractCapability[Any], ...] = ()


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
    answer = _checked(_placeholder(spec, schema), check)
    return Output(
        [_marked(answer, spec), DeferredToolRequests],
        text=False,
        capabilities=(_Schema(_shown(schema)),),
    )


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


def _placeholder(spec: OutputSpec, schema: Mapping[str, Any]) -> Any:
    """Returns a type with the name and description of the output, of any object.

    pydantic-ai inlines the definitions of a schema that it is given here: it cannot do so with a
    recursive one, and does not do so everywhere. So it gets none, and `_Schema` says it later.
    """
    title = schema.get("title")
    own = title if isinstance(title, str) and _NAME.fullmatch(title) else None
    described = schema.get("description")
    description = described if isinstance(described, str) else None
    if spec.description is not None:
        # Every mode but `auto` has a place of its own for it.
        description = spec.description if spec.mode == "auto" else None
    anything = {"type": "object", "additionalProperties": True}
    return StructuredDict(anything, spec.name or own, description)


def _shown(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the model is shown: the title and description stand beside it already."""
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


@dataclass
class _Schema(AbstractCapability[Any]):
    """Puts the schema, whole, into each request in the place of the placeholder's."""

    schema: dict[str, Any]

    async def prepare_output_tools(
        self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        return [replace(tool, parameters_json_schema=self.schema) for tool in tool_defs]

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        parameters = request_context.model_request_parameters
        if (asked := parameters.output_object) is None:
            return request_context
        shown = replace(parameters, output_object=replace(asked, json_schema=self.schema))
        return replace(request_context, model_request_parameters=shown)


def _checked(answer: Any, check: SchemaCheck) -> Any:
    """Returns a type like `answer` whose validation also asks the JSON Schema.

    A fault is a validation error, so that pydantic-ai asks the model again.
    """

    def validate(value: dict[str, Any]) -> dict[str, Any]:
        if faults := unsendable(value, _DEPTH):
            # A validation error would repeat the value, and nobody could read that either.
            raise ModelRetry(f"The answer cannot be used: {faults}.")
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
