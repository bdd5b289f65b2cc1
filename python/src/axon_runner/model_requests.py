"""Tells Rust of model requests, for the trace of a run; of one that is not told, nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.run import AgentRun
from pydantic_core import to_json

from axon_runner import failures, trace
from axon_runner.attempt import Attempt
from axon_runner.encode import EventTooLarge, loosely

_log = logging.getLogger(__name__)
_CONTENT_BYTES = 64 * 1024
_MESSAGE_BYTES = 16 * 1024
_TEXT_CHARS = 2048


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
    try:
        settings = InstrumentationSettings(include_content=True, include_binary_content=False)
        return _bounded(attempt.redactor.value(settings.messages_to_otel_messages(list(messages))))
    except Exception as error:  # noqa: BLE001 - what is only shown must not break what is done
        _cannot_write(type(error).__name__)
        return {}


def _bounded(messages: list[Any]) -> dict[str, Any]:
    """Returns the newest messages, for as many as there is room, and how many are left out."""
    kept: list[bytes] = []
    room = _CONTENT_BYTES - 2
    for message in reversed(messages):
        written = to_json(message, fallback=str)
        if len(written) > _MESSAGE_BYTES:
            written = to_json(_shortened(message), fallback=str)
        room -= len(written) + 1
        if room < 0:
            break
        kept.append(written)
    omitted = len(messages) - len(kept)
    told = {"messages": (b"[" + b",".join(reversed(kept)) + b"]").decode()}
    return told | ({"omitted_messages": omitted} if omitted else {})


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _TEXT_CHARS:
        return f"{value[:_TEXT_CHARS]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return value


@cache
def _cannot_write(error: str) -> None:
    """Logs why messages are not in spans; once, as it may be so in every request."""
    _log.warning("messages cannot be written for the trace, and are not in it: %s", error)


def _say(attempt: Attempt, kind: str, fields: dict[str, Any]) -> None:
    with suppress(EventTooLarge):
        attempt.emit(kind, loosely(fields))
