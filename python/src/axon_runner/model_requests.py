"""Tells Rust of model requests, for the trace of a run; of one that is not told, nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.run import AgentRun
from pydantic_core import to_json

from axon_runner import failures, trace
from axon_runner.attempt import Attempt
from axon_runner.encode import EventTooLarge, loosely

_CONTENT_CHARS = 64 * 1024


@contextmanager
def told(attempt: Attempt, run: AgentRun[Any, Any], request: ModelMessage) -> Iterator[None]:
    """Tells of the model request that is made meanwhile, with `request` as its last message."""
    with trace.span() as span_id:
        if span_id is None:
            yield
            return
        model = run.ctx.deps.model
        asked = {"span_id": span_id, "provider": model.system, "model": model.model_name}
        messages = [*run.all_messages(), request]
        _say(attempt, "model_request_started", asked | _content(attempt, messages))
        try:
            yield
        except asyncio.CancelledError:
            _say(attempt, "model_request_finished", {"error": "cancelled"})
            raise
        except Exception as error:
            kind = failures.describe(error, attempt.redactor)["kind"]
            _say(attempt, "model_request_finished", {"error": kind})
            raise
        response = run.all_messages()[-1]
        answered = _answered(response) if isinstance(response, ModelResponse) else {}
        _say(attempt, "model_request_finished", answered | _content(attempt, [response]))


def _answered(response: ModelResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "provider": response.provider_name,
        "model": response.model_name,
        "response_id": response.provider_response_id,
        "finish_reason": response.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
    }


def _content(attempt: Attempt, messages: Sequence[ModelMessage]) -> dict[str, Any]:
    """Returns the messages as OpenTelemetry's conventions write them, where they are wanted."""
    if not attempt.incoming.content:
        return {}
    settings = InstrumentationSettings(include_content=True, include_binary_content=False)
    written = settings.messages_to_otel_messages(list(messages))
    text = to_json(attempt.redactor.value(written), fallback=str).decode()
    return {"messages": text if len(text) <= _CONTENT_CHARS else _omitted(len(text))}


def _omitted(size: int) -> str:
    return to_json({"omitted_bytes": size}).decode()


def _say(attempt: Attempt, kind: str, fields: dict[str, Any]) -> None:
    with suppress(EventTooLarge):
        attempt.emit(kind, loosely(fields))
