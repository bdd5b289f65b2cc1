"""Python's log records: on the stream of the attempt they belong to, else on the control socket."""

from __future__ import annotations

import logging
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from axon_runner import failures
from axon_runner.attempt import current_attempt
from axon_runner.control import Control
from axon_runner.redaction import Redactor

_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_CHATTY = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "openai",
    "anthropic",
    "google_genai",
    "aiohttp",
)
_MESSAGE_CHARS = 16 * 1024
_LOGGER_CHARS = 256
_FIELDS_BYTES = 64 * 1024


class _Handler(logging.Handler):
    def __init__(self, control: Control, redactor: Redactor) -> None:
        super().__init__()
        self._control = control
        self._redactor = redactor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            attempt = current_attempt.get(None)
            entry = _entry(record, self._redactor if attempt is None else attempt.redactor)
            if attempt is None or attempt.over:
                self._control.send({"type": "log", **entry})
            else:
                attempt.log(entry)
        except Exception:  # noqa: BLE001 - a log record must never break the code that logs
            self.handleError(record)


def _entry(record: logging.LogRecord, redactor: Redactor) -> dict[str, Any]:
    extra = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    fields = redactor.value(to_jsonable_python(extra, fallback=str, inf_nan_mode="strings"))
    if record.exc_info and record.exc_info[1] is not None:
        fields["traceback"] = failures.trace(record.exc_info[1], redactor)
    size = len(to_json(fields, fallback=str))
    if size > _FIELDS_BYTES:
        fields = {"omitted_bytes": size}
    return {
        "level": _level(record.levelno),
        "logger": redactor.text(record.name)[:_LOGGER_CHARS],
        "message": redactor.text(record.getMessage())[:_MESSAGE_CHARS],
        "fields": fields,
    }


def install(control: Control, redactor: Redactor, level: str) -> None:
    """Sends every record of `level` and above, and every warning, to Rust."""
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [_Handler(control, redactor)]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    if number >= logging.INFO:
        return "info"
    return "debug" if number >= logging.DEBUG else "trace"
