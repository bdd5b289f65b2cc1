"""Instructions that depend on the day."""

import os
from datetime import date


def today() -> str:
    """Tells the model what day it is, or what `$AXON_TODAY` says, so that runs can be repeated."""
    return f"Today is {_today():%A, %Y-%m-%d}."


def _today() -> date:
    fixed = os.environ.get("AXON_TODAY")
    if not fixed:
        return date.today()
    try:
        return date.fromisoformat(fixed)
    except ValueError as error:
        raise ValueError(
            f"AXON_TODAY is {fixed!r}, which is no date; write it as 2026-11-28, or unset it"
        ) from error
