"""Every exception class of pydantic-ai is in the table of failures, or there is a reason why."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pydantic_ai
import pytest
from pydantic_ai import exceptions as ai
from pydantic_ai.messages import ToolReturnPart

from axon_runner import failures
from axon_runner.failures import Call, ToolBroken
from axon_runner.redaction import Redactor

NO_SECRETS = Redactor()

CONTROL_FLOW = {
    "ModelRetry": "tells the model to try again; pydantic-ai catches it around tools and output",
    "ToolFailed": "tells the model that a tool failed; pydantic-ai catches it around tools",
    "ToolRetryError": "carries ModelRetry inside pydantic-ai",
    "ToolFailedError": "carries ToolFailed inside pydantic-ai",
    "_UnknownTool": "is a ModelRetry",
    "_ToolUnavailable": "is a ModelRetry",
    "_ValidationDeferral": "carries a deferral inside the tool manager",
    "CallDeferred": "pauses the run",
    "ApprovalRequired": "pauses the run",
    "SkipModelRequest": "is raised by hooks and caught around them",
    "RetryModelRequest": "is raised by hooks and caught around them",
    "SkipToolValidation": "is raised by hooks and caught around them",
    "SkipToolExecution": "is raised by hooks and caught around them",
}

FOREIGN = {
    "DownloadTooLargeError": "a ValueError of downloading prompt content: internal, with traceback",
    "_CompatibleDecodingError": "an httpx error of downloading prompt content: internal",
    "_CompatibleHTTPStatusError": "an httpx error of downloading prompt content: internal",
    "_CompatibleRequestError": "an httpx error of downloading prompt content: internal",
    "ResponseRejected": "only ever inside a FallbackExceptionGroup",
    "RealtimeHandshakeError": "the runner opens no realtime sessions",
    "_HandshakeError": "the runner opens no realtime sessions",
    "_SessionGone": "the runner opens no realtime sessions",
    "_StreamCancelled": "TestModel raises it towards its own cancelled stream",
}


def modules() -> Iterator[str]:
    """Names every module of pydantic-ai that this environment can import."""
    for found in pkgutil.walk_packages(pydantic_ai.__path__, "pydantic_ai.", lambda _: None):
        yield found.name


def exception_classes() -> set[type[Exception]]:
    """Finds every exception class that pydantic-ai defines."""
    classes: set[type[Exception]] = set()
    for name in modules():
        if name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(name)
        except (ImportError, ai.UserError):
            continue
        classes.update(
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Exception)
            and not issubclass(value, Warning)
            and value.__module__.startswith("pydantic_ai")
        )
    return classes


@pytest.mark.filterwarnings("ignore")
def test_every_exception_class_of_pydantic_ai_is_mapped_or_excused() -> None:
    mapped = tuple(cls for cls, _ in failures.TABLE)
    classes = exception_classes()
    excused = {cls for cls in classes if cls.__name__ in CONTROL_FLOW | FOREIGN}
    forgotten = {cls for cls in classes - excused if not issubclass(cls, mapped)}

    assert ai.ModelRateLimitError in classes
    assert {f"{cls.__module__}.{cls.__qualname__}" for cls in forgotten} == set()
    assert not any(issubclass(cls, mapped) for cls in excused)


def test_no_row_is_hidden_by_one_before_it() -> None:
    classes = [cls for cls, _ in failures.TABLE]
    hidden = [
        (later.__name__, earlier.__name__)
        for index, later in enumerate(classes)
        for earlier in classes[:index]
        if issubclass(later, earlier)
    ]

    assert hidden == []


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (ai.ModelHTTPError(409, "m"), "model_http", True),
        (ai.ModelHTTPError(413, "m"), "model_http", False),
        (ai.ModelRequestTimeout("m", 3.0), "model_timeout", True),
        (ai.ModelTimeoutError("m", "slow", phase="read"), "model_timeout", True),
        (ai.ModelQuotaExceededError("m", "no money"), "model_quota", False),
        (ai.ModelContextWindowExceededError("m", "too long"), "context_window", False),
        (ai.ContentFilterError("no"), "content_filter", False),
        (ai.IncompleteToolCall("cut"), "output_token_limit", False),
        (ai.UnexpectedModelBehavior("odd"), "model_behavior", True),
        (ai.UserError("wrong"), "config", False),
        (ai.RunTimedOut("late"), "run_timeout", False),
        (
            ai.FallbackExceptionGroup("all", [ai.ModelQuotaExceededError("m", "no")]),
            "fallback_exhausted",
            False,
        ),
        (ZeroDivisionError(), "internal", False),
    ],
)
def test_class_decides_the_kind(error: Exception, kind: str, retryable: bool) -> None:
    described = failures.describe(error, NO_SECRETS)

    assert (described["kind"], described["retryable"]) == (kind, retryable)
    assert described["class"] == type(error).__name__


def test_exhausted_output_retries_are_told_by_their_cause() -> None:
    error = ai.UnexpectedModelBehavior("Exceeded maximum output retries (1)")
    error.__cause__ = ai.ToolRetryError(ToolReturnPart("t", "no", tool_call_id="c"))

    assert failures.describe(error, NO_SECRETS)["kind"] == "output_invalid"


def test_fields_of_a_model_failure_are_kept() -> None:
    error = ai.ModelHTTPError.for_category(
        ai.ModelRateLimitError,
        status_code=429,
        model_name="m",
        headers={"Retry-After": "7"},
        in_stream=True,
    )
    described = failures.describe(error, NO_SECRETS)

    assert {"retry_after": 7.0, "status_code": 429, "in_stream": True}.items() <= described.items()


def test_secrets_are_redacted_wherever_text_is() -> None:
    secret = "sk-very-secret"
    try:
        try:
            raise ValueError(f"inner {secret}")
        except ValueError as inner:
            raise RuntimeError(f"outer {secret}") from inner
    except RuntimeError as outer:
        broken = ToolBroken(Call("c1", "t"))
        broken.__cause__ = outer
    described = failures.describe(broken, Redactor([secret, "short"]))

    assert secret not in str(described)
    assert described["message"] == "outer [redacted]"
    assert described["cause"]["message"] == "inner [redacted]"
    assert "inner [redacted]" in described["traceback"]
