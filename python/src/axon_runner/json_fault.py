"""Where a value stops being JSON that the other end can read, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json, to_jsonable_python

from axon_runner.decode import is_finite

_PLACE_CHARS = 100
# Lone surrogates survive `to_jsonable_python` and stand in no text that could be sent.
_UNKNOWN = "\udfffunknown:"


def of_value(value: Any, depth: int) -> str | None:
    """Returns the first fault of a Python value, if it can be told."""
    try:
        shown = to_jsonable_python(
            value, inf_nan_mode="constants", bytes_mode="base64", fallback=_mark
        )
    except ValueError:
        return None
    return _first(shown, depth)


def of_json(data: bytes, depth: int) -> str | None:
    """Returns the first fault of JSON that a serialiser wrote, if the other end cannot read it."""
    try:
        value = from_json(data)
    except ValueError as error:
        if "out of range" in str(error):
            return "an integer is beyond the range of a 64-bit float"
        return f"the value is nested deeper than {depth} levels"
    return _first(value, depth)


def _mark(value: Any) -> str:
    return _UNKNOWN + type(value).__qualname__


def _first(value: Any, depth: int) -> str | None:
    for place, found in _walk(value, depth):
        match found:
            case float() if not math.isfinite(found):
                return f"{place} is {found}, not a finite number"
            case int() if not is_finite(found):
                return f"{place} is an integer beyond the range of a 64-bit float"
            case str() if found.startswith(_UNKNOWN):
                return f"{place} is of type {found.removeprefix(_UNKNOWN)}"
            case str() if not _is_unicode(found):
                return f"{place} is text with a lone surrogate"
            case dict() | list():
                return f"{place} is nested deeper than {depth} levels"
            case _:
                pass
    return None


def _walk(value: Any, depth: int, place: str = "") -> Iterator[tuple[str, Any]]:
    """Gives every leaf with its place, and as a leaf each container that is too deep."""
    if depth > 0 and isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from _walk(child, depth - 1, f"{place}.{key}" if place else str(key))
    else:
        cut = f"{place[:_PLACE_CHARS]}…" if len(place) > _PLACE_CHARS else place
        yield cut or "the value", value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
