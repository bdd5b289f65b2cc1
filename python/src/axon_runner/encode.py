"""Turns values into JSON that the other end can read, or refuses."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from axon_runner import json_fault
from axon_runner.decode import has_long_number
from axon_runner.user_code import as_text

_REMEDY = (
    "return text, finite numbers, booleans, None, or lists, dicts, dataclasses"
    " and pydantic models of them"
)


class EncodeError(Exception):
    """The value has no JSON form within the limits that both ends share."""


class ResultUnsendable(EncodeError):
    """What a tool returned has no JSON form within those limits."""


class ModelUnsendable(EncodeError):
    """What the model said has no JSON form within those limits."""


class OutputUnsendable(EncodeError):
    """The output of an agent has no JSON form within those limits."""


class EventTooLarge(EncodeError):
    """An event has more bytes than the other end reads."""


def encode(value: Any, depth: int = 64) -> bytes:
    """Encodes `value`, nested at most `depth` levels.

    Raises `EncodeError`, with the place of the fault, for non-finite numbers, lone surrogates,
    deeper nesting, and objects that pydantic cannot serialise.
    """
    try:
        data = to_json(value, inf_nan_mode="constants", bytes_mode="base64")
    except (PydanticSerializationError, UnicodeEncodeError, ValueError) as error:
        raise EncodeError(json_fault.of_value(value, depth) or _plainly(value, error)) from error
    return checked(data, depth)


def loosely(value: Any, depth: int = 64) -> bytes:
    """Encodes `value` for somebody to read: what has no JSON form is told as text.

    Raises `EncodeError` for lone surrogates and deeper nesting.
    """
    try:
        data = to_json(value, inf_nan_mode="strings", bytes_mode="base64", fallback=as_text)
    except (PydanticSerializationError, UnicodeEncodeError, ValueError) as error:
        raise EncodeError(_plainly(value, error)) from error
    return checked(data, depth)


def encode_result(tool: str, result: Any, depth: int) -> bytes:
    """Encodes what a tool returned.

    Raises `ResultUnsendable`, which says what the tool can return instead.
    """
    try:
        return encode(result, depth)
    except EncodeError as error:
        what = f"tool {tool} returned what cannot be written as JSON"
        raise ResultUnsendable(f"{what}: {error}; {_REMEDY}") from error


def checked(data: bytes, depth: int = 64) -> bytes:
    """Returns `data`, which a serialiser of pydantic wrote, if the other end can read it.

    Raises `EncodeError` for numbers that are not finite as floats, and deeper nesting.
    """
    suspect = b"NaN" in data or b"Infinity" in data or has_long_number(data)
    if not suspect and data.count(b"{") + data.count(b"[") <= depth:
        return data
    if fault := json_fault.of_json(data, depth):
        raise EncodeError(fault)
    return data


def _plainly(value: Any, error: Exception) -> str:
    return f"{type(value).__name__} has no JSON form: {error}"
