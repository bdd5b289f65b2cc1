"""What pydantic finds wrong with a record, in one line."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def faults(error: ValidationError) -> str:
    """Returns every fault of a validation, without the values at fault."""
    return "; ".join(map(_fault, error.errors(include_url=False, include_context=False)))


def _fault(detail: ErrorDetails) -> str:
    place = ".".join(map(str, detail["loc"]))
    return f"{place}: {detail['msg']}" if place else detail["msg"]
