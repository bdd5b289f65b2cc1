"""JSON Schemas that are known only at run time: pydantic-ai sends them, we enforce them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

from pydantic_ai.exceptions import ModelRetry
from pydantic_core import from_json

from axon_runner.encode import EncodeError, encode
from axon_runner.launch import ConfigError

_SHOWN_ERRORS = 8
_SHOWN_CHARS = 400


def can_check() -> bool:
    """Says whether this environment has what it takes to hold values to schemas."""
    return find_spec("jsonschema_rs") is not None


class SchemaCheck:
    """Says in one line what is wrong with a value, or nothing."""

    def __init__(self, schema: dict[str, Any], what: str) -> None:
        try:
            import jsonschema_rs
        except ImportError:
            raise ConfigError(
                f"{what} needs the package jsonschema-rs;"
                f" run: {sys.executable} -m pip install jsonschema-rs"
            ) from None
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                retriever=_refuse_retrieval,
                pattern_options=jsonschema_rs.RegexOptions(),  # linear time, as in Rust
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise ConfigError(f"{what} is not a usable JSON Schema: {error}") from None

    def faults(self, value: Any) -> str:
        """Returns what is wrong with `value`; empty when it fits the schema."""
        if self._validator.is_valid(value):
            return ""
        found = []
        for error in self._validator.iter_errors(value):
            place = "/".join(map(str, error.instance_path)) or "the value"
            found.append(f"{place}: {error.message[:_SHOWN_CHARS]}")
            if len(found) == _SHOWN_ERRORS:
                break
        return "; ".join(found)


def unsendable(value: Any, depth: int = 64) -> str:
    """Returns why the other end could not read `value`, which may fit its schema; or nothing."""
    try:
        encode(value, depth)
    except EncodeError as error:
        return str(error)
    return ""


def _refuse_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"references to other documents are not followed: {uri}")


class SchemaArguments:
    """Validates a tool's arguments by JSON Schema, in the place of a pydantic validator."""

    def __init__(self, check: SchemaCheck | None, then: Any = None) -> None:
        self._check = check
        self._then = then

    def validate_json(
        self,
        input: str | bytes | bytearray,
        *,
        allow_partial: bool | Literal["off", "on", "trailing-strings"] = False,
        **kwargs: Any,
    ) -> Any:
        """Parses and validates arguments as the model wrote them."""
        data = input.encode() if isinstance(input, str) else bytes(input)
        try:
            value = from_json(data, allow_inf_nan=False, allow_partial=allow_partial)
        except ValueError as error:
            raise ModelRetry(f"The arguments are not JSON: {error}") from None
        return self.validate_python(value, allow_partial=allow_partial, **kwargs)

    def validate_python(
        self,
        input: Any,
        *,
        allow_partial: bool | Literal["off", "on", "trailing-strings"] = False,
        **kwargs: Any,
    ) -> Any:
        """Validates arguments that are parsed already."""
        if allow_partial not in (False, "off"):
            return input
        if not isinstance(input, dict):
            raise ModelRetry("The arguments are not a JSON object.")
        if faults := unsendable(input):
            raise ModelRetry(f"The arguments cannot be used: {faults}.")
        if self._check is not None and (faults := self._check.faults(input)):
            raise ModelRetry(f"The arguments do not fit the tool's schema: {faults}")
        return input if self._then is None else self._then.validate_python(input, **kwargs)
