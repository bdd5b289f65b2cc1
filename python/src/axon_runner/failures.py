"""The one place where exceptions become error objects: by class, never by text."""

from __future__ import annotations

import importlib
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_ai import exceptions as ai

from axon_runner.encode import (
    EncodeError,
    EventTooLarge,
    ModelUnsendable,
    OutputUnsendable,
    ResultUnsendable,
)
from axon_runner.launch import ConfigError
from axon_runner.redaction import Redactor
from axon_runner.user_code import as_text

Kind = Literal[
    "model_rate_limited",
    "model_quota",
    "model_overloaded",
    "model_unavailable",
    "model_server",
    "model_connection",
    "model_timeout",
    "model_http",
    "context_window",
    "model_auth",
    "model_not_found",
    "model_rejected",
    "content_filter",
    "output_token_limit",
    "output_invalid",
    "model_behavior",
    "usage_limit",
    "busy",
    "run_timeout",
    "cancelled",
    "config",
    "tool",
    "toolset",
    "fallback_exhausted",
    "decode",
    "runner_died",
    "internal",
]

_TRACEBACK_CHARS = 16 * 1024
_MESSAGE_CHARS = 16 * 1024


@dataclass(frozen=True)
class Call:
    """The tool call that a failure belongs to."""

    tool_call_id: str | None
    name: str


class ToolBroken(Exception):
    """A tool raised something that is not for the model; the cause is what it raised."""

    def __init__(self, call: Call, message: str = "", remote: dict[str, Any] | None = None) -> None:
        super().__init__(message or f"tool {call.name} failed")
        self.call = call
        self.remote = remote


class DepsBroken(Exception):
    """The deps factory, or leaving its context, raised; the cause is what it raised."""


class ToolsetBroken(Exception):
    """A toolset of the agent could not be entered; the cause is what it raised."""


class RetriesExhausted(Exception):
    """The model kept calling one tool wrongly; the cause is pydantic-ai's own exception."""

    def __init__(self, call: Call) -> None:
        super().__init__(f"tool {call.name} exceeded its retries")
        self.call = call


class RunnerTimeout(Exception):
    """The attempt did not end within its timeout."""


@dataclass(frozen=True)
class Row:
    """What the class of an exception says about a failure."""

    kind: Kind
    retryable: bool = False
    traced: bool = False


def _newer(module: str, name: str, row: Row) -> list[tuple[type[BaseException], Row]]:
    """Returns the row of a class that older versions in the tested range do not have."""
    try:
        return [(getattr(importlib.import_module(f"pydantic_ai.{module}"), name), row)]
    except (ImportError, AttributeError):
        return []


# Subclasses stand before their parents; the first match wins. No row says `decode`: that is only
# for bodies that could not be read, and what user code or the model made is none.
TABLE: tuple[tuple[type[BaseException], Row], ...] = (
    (ai.ModelQuotaExceededError, Row("model_quota")),
    (ai.ModelRateLimitError, Row("model_rate_limited", retryable=True)),
    (ai.ModelOverloadedError, Row("model_overloaded", retryable=True)),
    (ai.ModelUnavailableError, Row("model_unavailable", retryable=True)),
    (ai.ModelServerError, Row("model_server", retryable=True)),
    (ai.ModelTimeoutError, Row("model_timeout", retryable=True)),
    (ai.ModelRequestTimeout, Row("model_timeout", retryable=True)),
    (ai.ModelConnectionError, Row("model_connection", retryable=True)),
    (ai.ModelContextWindowExceededError, Row("context_window")),
    *_newer("exceptions", "ModelAuthenticationError", Row("model_auth")),
    *_newer("exceptions", "ModelNotFoundError", Row("model_not_found")),
    *_newer("exceptions", "ModelRequestRejectedError", Row("model_rejected")),
    (ai.ModelAPIError, Row("model_http")),
    (ai.ContentFilterError, Row("content_filter")),
    (ai.IncompleteToolCall, Row("output_token_limit")),
    *_newer("exceptions", "OutputTokenLimitExceeded", Row("output_token_limit")),
    (ai.UnexpectedModelBehavior, Row("model_behavior", retryable=True)),
    (ai.UsageLimitExceeded, Row("usage_limit")),
    (ai.ConcurrencyLimitExceeded, Row("busy", retryable=True)),
    (ai.RunTimedOut, Row("run_timeout")),
    (RunnerTimeout, Row("run_timeout")),
    (ai.RunCancelled, Row("cancelled")),
    (ai.SuspendedResponseExpired, Row("model_behavior")),
    (ai.AgentRunError, Row("internal", traced=True)),
    (ai.FallbackExceptionGroup, Row("fallback_exhausted")),
    (ai.UserError, Row("config", traced=True)),
    (ConfigError, Row("config")),
    (ImportError, Row("config", traced=True)),
    (SyntaxError, Row("config", traced=True)),
    (ResultUnsendable, Row("tool")),
    (ModelUnsendable, Row("model_behavior", retryable=True)),
    (OutputUnsendable, Row("output_invalid")),
    (EventTooLarge, Row("usage_limit")),
    (EncodeError, Row("internal", traced=True)),
    (ToolBroken, Row("tool", traced=True)),
    (RetriesExhausted, Row("model_behavior", retryable=True)),
    (DepsBroken, Row("toolset", traced=True)),
    *_newer("workspaces.protocol", "WorkspaceError", Row("toolset", traced=True)),
    *_newer("external_events", "ExternalEventError", Row("toolset", traced=True)),
    (ToolsetBroken, Row("toolset", traced=True)),
)
_STANDS_FOR_ITS_CAUSE = (ToolBroken, DepsBroken, ToolsetBroken, RetriesExhausted)
_UNKNOWN = Row("internal", traced=True)
_RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_OUTPUT_RETRY_CAUSES = (ai.ModelRetry, ai.ToolRetryError, ValidationError)


def row(exc: BaseException) -> Row:
    """Returns the row for `exc`; an unknown class is a bug of ours, hence `internal`."""
    found = next((row for cls, row in TABLE if isinstance(exc, cls)), _UNKNOWN)
    match exc:
        case ai.UnexpectedModelBehavior() if found.kind == "model_behavior" and isinstance(
            exc.__cause__, _OUTPUT_RETRY_CAUSES
        ):
            return Row("output_invalid")
        case ai.ModelHTTPError() if found.kind == "model_http":
            return Row("model_http", retryable=exc.status_code in _RETRYABLE_STATUS)
        case ai.FallbackExceptionGroup():
            return Row(
                "fallback_exhausted", retryable=any(row(e).retryable for e in exc.exceptions)
            )
        case _:
            return found


def known(exc: BaseException) -> bool:
    """Says whether the table has a row for the class of `exc`."""
    return any(isinstance(exc, cls) for cls, _ in TABLE)


def describe(exc: BaseException, redactor: Redactor, **known: Any) -> dict[str, Any]:
    """Returns the error object for `exc`; `known` adds or replaces fields."""
    found = row(exc)
    original = _original(exc)
    error: dict[str, Any] = {
        "kind": found.kind,
        "class": type(original).__name__,
        "message": _message(original, redactor),
        "retryable": found.retryable,
        **_details(exc),
        **known,
    }
    if original.__cause__ is not None:
        cause = original.__cause__
        error["cause"] = {
            "class": type(cause).__name__,
            "message": _message(cause, redactor),
        }
    if found.traced and "traceback" not in error:
        error["traceback"] = trace(original, redactor)
    return error


def plain(kind: Kind, message: str, *, retryable: bool = False) -> dict[str, Any]:
    """Returns the error object of a refusal that no exception stands behind."""
    return {"kind": kind, "class": "Refused", "message": message, "retryable": retryable}


def trace(exc: BaseException, redactor: Redactor) -> str:
    """Returns the end of the traceback of `exc`, without secrets."""
    text = "".join(traceback.format_exception(exc))
    return redactor.text(text)[-_TRACEBACK_CHARS:]


def _message(exc: BaseException, redactor: Redactor) -> str:
    return redactor.text(as_text(exc))[:_MESSAGE_CHARS] or type(exc).__name__


def _original(exc: BaseException) -> BaseException:
    if isinstance(exc, _STANDS_FOR_ITS_CAUSE) and exc.__cause__ is not None:
        return exc.__cause__
    return exc


def _details(exc: BaseException) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if isinstance(exc, ai.ModelAPIError):
        details = {
            "retry_after": exc.retry_after,
            "status_code": getattr(exc, "status_code", None),
            "phase": getattr(exc, "phase", None),
            "in_stream": exc.in_stream,
        }
    elif isinstance(exc, (ToolBroken, RetriesExhausted)):
        details = {"tool": {"tool_call_id": exc.call.tool_call_id, "name": exc.call.name}}
        if isinstance(exc, ToolBroken) and exc.remote is not None:
            details |= exc.remote
    elif isinstance(exc, DepsBroken):
        details = {"phase": "deps"}
    return {key: value for key, value in details.items() if value is not None}
