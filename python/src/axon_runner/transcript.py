"""The messages of a run as the recording side knows them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.messages import ModelMessage

from axon_runner.encode import checked

_to_json = TypeAdapter(
    ModelMessage,
    config=ConfigDict(
        ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    ),
).serializer.to_json
_MESSAGE_DEPTH = 90
_MAY_STILL_CHANGE = 2


class Transcript:
    """Encodes each message once and tells where the recorded list has changed.

    pydantic-ai fills in the last messages in place (timestamps, instructions, a workspace), and
    capabilities may replace older ones by new objects. So the last two are compared by their
    bytes and the others by identity.
    """

    def __init__(self, history: Sequence[ModelMessage]) -> None:
        self._messages: list[ModelMessage] = list(history)
        self._encoded: list[bytes] = [b""] * len(self._messages)
        self._given = len(self._messages)

    def advance(self, messages: list[ModelMessage]) -> tuple[int, list[bytes]]:
        """Takes `messages` as the run's list; returns where it changed and what replaces the rest.

        Raises `EncodeError` when a message has no JSON form.
        """
        settled = len(self._messages) - _MAY_STILL_CHANGE
        base = 0
        fresh: bytes | None = None
        for known, message in zip(self._messages, messages, strict=False):
            if known is not message:
                break
            if base >= self._given and base >= settled:
                fresh = _encode(message)
                if fresh != self._encoded[base]:
                    break
                fresh = None
            base += 1
        tail = [_encode(message) for message in messages[base + (fresh is not None) :]]
        if fresh is not None:
            tail.insert(0, fresh)
        self._messages[base:] = messages[base:]
        self._encoded[base:] = tail
        return base, tail

    def added(self) -> list[bytes]:
        """Returns what the attempt has added to the history that it was given."""
        return self._encoded[self._given :]


def _encode(message: ModelMessage) -> bytes:
    return checked(_to_json(message), _MESSAGE_DEPTH)
