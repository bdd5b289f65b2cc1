"""The error object of a runner that never got ready; needs nothing but the standard library."""

from __future__ import annotations

import json
import traceback
from typing import Any

from axon_runner.preflight import Unusable
from axon_runner.redaction import Redactor

_TRACEBACK_CHARS = 16 * 1024


def describe(error: BaseException, launch: bytes) -> dict[str, Any]:
    """Returns the error object for `error`, without the secrets of the launch record.

    Nothing but the configuration of user code runs before ready, so the kind is `config`.
    """
    redactor = Redactor(secrets(launch))
    text = redactor.text(
        "".join(traceback.format_exception(type(error), error, error.__traceback__))
    )
    described: dict[str, Any] = {
        "kind": "config",
        "class": type(error).__name__,
        "message": redactor.text(_text(error)) or type(error).__name__,
        "retryable": False,
    }
    if not isinstance(error, Unusable):
        described["traceback"] = text[-_TRACEBACK_CHARS:]
    return described


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - user code wrote the class
        return ""


def secrets(launch: bytes) -> list[str]:
    """Returns the token and the values of the environment in a launch record."""
    try:
        record = json.loads(launch)
        return [str(record.get("token", "")), *map(str, record.get("env", {}).values())]
    except (ValueError, AttributeError):
        return []
