"""Requests as they come over the link."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StringConstraints,
    ValidationError,
)
from pydantic_ai.messages import ModelMessage, UserContent
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolResults
from pydantic_ai.usage import RunUsage, UsageLimits

from axon_runner.faults import faults
from axon_runner.launch import TARGET_PATTERN, ConfigError, Effect, Target

_TOOL_TARGET = rf"^(rust|agent|module|python:{TARGET_PATTERN[1:-1]})$"

Schema = dict[str, JsonValue]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
# Strict: a number that comes as text is a fault of the sender, not a number.
Integer = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Retries = Annotated[int, Field(ge=0, strict=True)]


class _Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", val_json_bytes="base64", ser_json_bytes="base64"
    )


class RetriesSpec(_Wire):
    """Retry budgets of tools and of output validation."""

    tools: Retries | None = None
    output: Retries | None = None


class ProviderSpec(_Wire):
    """Where the model's provider is, when it is not where its SDK looks."""

    base_url: str | None = None
    api_key_env: str | None = None


class ToolSpec(_Wire):
    """A tool that the agent gets beside its own, or with target `module` one of those."""

    name: Name
    target: Annotated[str, StringConstraints(pattern=_TOOL_TARGET)]
    description: str | None = None
    parameters: Schema | None = None
    strict: StrictBool | None = None
    sequential: StrictBool = False
    timeout: Seconds | None = None
    max_retries: Retries | None = None
    effect: Effect | None = None
    requires_approval: StrictBool = False


class OutputSpec(_Wire):
    """How the model is asked for its answer, and what the answer must look like."""

    mode: Literal["auto", "tool", "native", "prompted", "text"] = "auto"
    json_schema: Schema | None = Field(default=None, alias="schema")
    name: Name | None = None
    description: str | None = None
    strict: StrictBool | None = None


class Spec(_Wire):
    """An agent as data, or as `module` with every other key overriding that agent's own."""

    model: str | None = None
    name: str | None = None
    description: str | None = None
    dynamic_instructions: tuple[Target, ...] = ()
    model_settings: dict[str, JsonValue] | None = None
    retries: Retries | RetriesSpec | None = None
    end_strategy: Literal["early", "graceful", "exhaustive"] | None = None
    tool_timeout: Seconds | None = None
    capabilities: list[JsonValue] | None = None
    metadata: dict[str, JsonValue] | None = None
    provider: ProviderSpec | None = None
    tools: tuple[ToolSpec, ...] = ()
    output: OutputSpec | None = None
    deps_schema: Schema | None = None
    deps_factory: Target | None = None
    validate_output: StrictBool | None = None
    module: Target | None = None


def _known_limits(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    known = {field.name for field in dataclasses.fields(UsageLimits)}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"unknown limits: {', '.join(unknown)}")
    # An amount of money is exact only as text.
    if texts := sorted(k for k, v in value.items() if isinstance(v, str) and k != "cost_limit"):
        raise ValueError(f"limits that are text and no numbers: {', '.join(texts)}")
    return {"request_limit": None, **value}


class RunRequest(_Wire):
    """Starts or resumes one attempt of a run."""

    run_id: Name
    attempt: Annotated[Integer, Field(ge=1)]
    spec: dict[str, Any]
    conversation_id: Name | None = None
    prompt: str | list[UserContent] | None = None
    stream: StrictBool = True
    instructions: str | None = None
    deps: Any = None
    message_history: list[ModelMessage] = []
    recorded: dict[str, Any] = {}
    deferred_tool_results: DeferredToolResults | None = None
    usage: RunUsage | None = None
    usage_limits: Annotated[UsageLimits, BeforeValidator(_known_limits)] | None = None
    model_settings: dict[str, JsonValue] | None = None
    timeout: Seconds | None = None
    metadata: dict[str, JsonValue] | None = None
    state: dict[str, Any] | None = None
    secrets: tuple[str, ...] = Field(default=(), repr=False)


class ValidateRequest(_Wire):
    """Builds an agent without running it."""

    spec: dict[str, Any]
    deps: Any = None


class Permit(_Wire):
    """The checkpoint or tool start `seq` is recorded; the attempt may go on."""

    attempt: Integer
    seq: Integer


class StatePatch(_Wire):
    """A change of the state that a run carries, by its top-level keys."""

    set: dict[str, Any] = {}
    removed: tuple[str, ...] = ()


class ToolResult(_Wire):
    """The answer to a `tool_request`, or to an `output_check`."""

    attempt: Integer
    tool_call_id: str
    status: Literal["ok", "retry", "failed", "needs_approval", "needs_answer", "error"]
    content: Any = None
    message: str | None = None
    metadata: dict[str, Any] | None = None
    kind: str | None = None
    retryable: StrictBool = False
    patches: tuple[StatePatch, ...] = ()
    usage: RunUsage | None = None


class Message(_Wire):
    """Steers a live run."""

    attempt: Integer
    message_id: Name
    content: str | Annotated[list[UserContent], Field(min_length=1)]
    priority: Literal["asap", "when_idle"] = "asap"


class ToolCall(_Wire):
    """Runs one registered Python tool outside any run."""

    args: dict[str, Any] = {}
    deps: Any = None
    deps_factory: Target | None = None
    tool_call_id: str | None = None


class ReconcileRequest(_Wire):
    """Asks what became of a tool call."""

    key: str
    run_id: Name
    step: Integer
    tool_call_id: str
    name: str
    args: dict[str, Any] = {}
    deps: Any = None
    deps_factory: Target | None = None


def parse_spec(spec: dict[str, Any]) -> Spec:
    """Returns the validated agent spec.

    Raises `ConfigError` naming every fault.
    """
    try:
        parsed = Spec.model_validate(spec)
    except ValidationError as error:
        raise ConfigError(f"invalid spec: {faults(error)}") from None
    unknown = sorted((parsed.model_settings or {}).keys() - ModelSettings.__annotations__.keys())
    foreign = [key for key in unknown if "_" not in key]
    if foreign:
        raise ConfigError(f"invalid spec: unknown model_settings: {', '.join(foreign)}")
    return parsed
