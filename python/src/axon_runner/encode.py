"""Turns values into JSON that the other end can read, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from axon_runner.decode import deeper_than


class EncodeError(Exception):
    """The value has no JSON form within the limits that both ends share."""


def encode(value: Any, depth: int = 64, fallback: Callable[[Any], Any] | None = None) -> bytes:
    """Encodes `value`, nested at most `depth` levels.

    Raises `EncodeError` for non-finite numbers, lone surrogates, deeper nesting, and objects
    that pydantic cannot serialise (unless `fallback` turns them into something it can).
    """
    try:
        data = to_json(value, inf_nan_mode="constants", bytes_mode="base64", fallback=fallback)
    except (PydanticSerializationError, UnicodeEncodeError, ValueError) as error:
        raise EncodeError(f"{type(value).__name__} has no JSON form: {error}") from error
    return checked(data, depth)


def checked(data: bytes, depth: int = 64) -> bytes:
    """Returns `data`, which a serialiser of pydantic wrote, if the other end can read it.

    Raises `EncodeError` for NaN, infinities and deeper nesting.
    """
    suspect = b"NaN" in data or b"Infinity" in data
    if not suspect and data.count(b"{") + data.count(b"[") <= depth:
        return data
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        raise EncodeError("a number is not finite") from None
    if deeper_than(value, depth):
        raise EncodeError(f"the value is nested deeper than {depth} levels")
    return data
