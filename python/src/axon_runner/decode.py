"""Turns bytes from the link into JSON values, refusing what the other end could not read."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import from_json

_EXCERPT = 200
_DUPLICATES_CHECKED_UP_TO = 64 * 1024


class DecodeError(Exception):
    """The bytes are not JSON, or JSON outside the limits that both ends share."""


def decode(body: bytes, depth: int) -> Any:
    """Parses `body`, nested at most `depth` levels.

    Raises `DecodeError` for malformed JSON, NaN and infinities, lone surrogates, duplicate keys
    (in bodies up to 64 KiB, where looking is cheap) and deeper nesting.
    """
    try:
        value = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise DecodeError(f"invalid JSON: {error}; it begins with {_excerpt(body)}") from None
    if body.count(b"{") + body.count(b"[") > depth and deeper_than(value, depth):
        raise DecodeError(
            f"JSON is nested deeper than {depth} levels; it begins with {_excerpt(body)}"
        )
    if len(body) <= _DUPLICATES_CHECKED_UP_TO:
        try:
            json.loads(body, object_pairs_hook=_unique, parse_float=_finite)
        except (_Refused, RecursionError) as error:
            raise DecodeError(f"{error}; the body begins with {_excerpt(body)}") from None
    return value


def deeper_than(value: Any, depth: int) -> bool:
    """Says whether containers nest deeper than `depth` in `value`."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


class _Refused(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Refused("an object has the same key twice")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(f"the number {text[:40]} is out of range")
    return number


def _excerpt(body: bytes) -> str:
    return repr(body[:_EXCERPT].decode("utf-8", "replace"))[:_EXCERPT]
