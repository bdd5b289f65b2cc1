"""Turns bytes from the link into JSON values, refusing what the other end could not read.

Both ends hold JSON to one set of limits beyond its grammar: nesting, numbers within the range of a
64-bit float, no lone surrogates, no key twice in one object.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import from_json, to_json

_EXCERPT = 200
# Up to this size a second reading, which tells what is wrong, costs less than looking for signs.
_READ_TWICE_UP_TO = 64 * 1024
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{309}")


class DecodeError(Exception):
    """The bytes are not JSON, or JSON outside the limits that both ends share."""


def decode(body: bytes, depth: int) -> Any:
    """Parses `body`, nested at most `depth` levels.

    Raises `DecodeError` for malformed JSON, numbers that are not finite as floats, lone surrogates,
    duplicate keys and deeper nesting.
    """
    try:
        value = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise DecodeError(f"invalid JSON: {error}; it begins with {_excerpt(body)}") from None
    if body.count(b"{") + body.count(b"[") > depth and deeper_than(value, depth):
        raise DecodeError(
            f"JSON is nested deeper than {depth} levels; it begins with {_excerpt(body)}"
        )
    if len(body) <= _READ_TWICE_UP_TO or _is_suspect(body, value):
        try:
            json.loads(body, object_pairs_hook=_unique, parse_float=_float, parse_int=_int)
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


def has_long_number(data: bytes) -> bool:
    """Says whether there are as many digits in a row as only numbers beyond a float have."""
    return len(data) > 308 and _LONG_NUMBER.search(data) is not None


def is_finite(number: int) -> bool:
    """Says whether the integer is within the range of a 64-bit float."""
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _is_suspect(body: bytes, value: Any) -> bool:
    """Looks for signs that `body` is outside the limits; `value` is what it was parsed to."""
    if has_long_number(body):
        return True
    again = to_json(value, inf_nan_mode="constants")
    # Of two equal keys only one is left.
    return b"Infinity" in again or _texts(again) != _texts(body)


def _texts(data: bytes) -> int:
    """Returns how many quotes in JSON begin or end a text."""
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    return data.count(b'"')


class _Refused(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Refused("an object has the same key twice")


def _float(text: str) -> None:
    if float(text) in (float("inf"), float("-inf")):
        raise _Refused(f"the number {text[:40]} is out of range")


def _int(text: str) -> None:
    if len(text) > 308:
        _float(text)


def _excerpt(body: bytes) -> str:
    return repr(body[:_EXCERPT].decode("utf-8", "replace"))[:_EXCERPT]
