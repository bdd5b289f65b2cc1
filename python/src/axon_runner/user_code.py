"""What user code may do where the runner calls it."""

from __future__ import annotations

from typing import Any

USER_ERRORS = (Exception, SystemExit, KeyboardInterrupt, BaseExceptionGroup)
"""What is caught at every boundary to user code: it may fail, and may not end the runner.

Never `CancelledError` or `GeneratorExit`, by which the runner itself stops what it has started.
"""


def as_text(value: Any) -> str:
    """Returns what `value` says of itself, whatever its class does when it is asked."""
    try:
        return str(value)
    except USER_ERRORS:
        return f"<{type(value).__qualname__}>"
