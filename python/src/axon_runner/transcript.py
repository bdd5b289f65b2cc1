"""The messages of a run as the recording side knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_core import PydanticSerializationError

from axon_runner.encode import EncodeError, ModelUnsendable, checked

_to_json = TypeAdapter(
    ModelMessage,
    config=ConfigDict(
        ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    ),
).serializer.to_json
_MESSAGE_DEPTH = 90


@dataclass(frozen=True, slots=True)
class _Known:
    """A message as it was encoded, and what it was made of then."""

    message: ModelMessage
    made_of: tuple[Any, ...]
    encoded: bytes

    def still(self, message: ModelMessage) -> bool:
        """Says whether `message` is the same object, made of the same objects."""
        return self.message is message and _same(self.made_of, _made_of(message))


class Transcript:
    """Encodes each message once and tells where the recorded list has changed.

    pydantic-ai fills in the fields of messages in place (timestamps, instructions, a workspace),
    and capabilities may replace messages by new objects. Both show in the identity of a message,
    its fields and its parts.
    """

    def __init__(self, history: Sequence[ModelMessage]) -> None:
        self._known = [_Known(message, _made_of(message), b"") for message in history]
        self._given = len(history)

    def advance(self, messages: Sequence[ModelMessage]) -> tuple[int, list[bytes]]:
        """Takes `messages` as the run's list; returns where it changed and what replaces the rest.

        Raises `EncodeError` when a message has no JSON form.
        """
        base = 0
        for known, message in zip(self._known, messages, strict=False):
            if not known.still(message):
                break
            base += 1
        tail = [_Known(m, _made_of(m), _encode(m)) for m in messages[base:]]
        self._known[base:] = tail
        return base, [known.encoded for known in tail]

    def added(self) -> list[bytes]:
        """Returns what the attempt has added to the history that it was given."""
        return [known.encoded for known in self._known[self._given :]]


def _made_of(message: ModelMessage) -> tuple[Any, ...]:
    return (*vars(message).values(), *message.parts)


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def _encode(message: ModelMessage) -> bytes:
    try:
        return checked(_to_json(message), _MESSAGE_DEPTH)
    except (EncodeError, PydanticSerializationError, UnicodeEncodeError) as error:
        cls = ModelUnsendable if isinstance(message, ModelResponse) else EncodeError
        raise cls(f"a message cannot be written as JSON: {error}") from error
