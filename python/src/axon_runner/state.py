"""The state that a run carries: an object that its caller gives and its tools change."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from axon_runner.encode import EncodeError, encode
from axon_runner.wire import StatePatch


class State:
    """The state as the attempt's tools see it, and how much of it Rust knows.

    Rust keeps it. What Python tools change is told when their call ends, by top-level keys, so
    that calls which change different keys at the same time do not undo each other's work.
    """

    def __init__(self, given: dict[str, Any] | None, depth: int) -> None:
        self.live: dict[str, Any] = given or {}
        self._depth = depth
        self._told = {key: self._encoded(value) for key, value in self.live.items()}

    def apply(self, patch: StatePatch) -> None:
        """Takes in what a Rust tool has changed."""
        for key in patch.removed:
            self.live.pop(key, None)
            self._told.pop(key, None)
        for key, value in patch.set.items():
            self.live[key] = value
            self._told[key] = self._encoded(value)

    def changes(self) -> bytes | None:
        """Returns what has changed since the last time, as JSON; nothing if nothing has.

        Raises `EncodeError` for a state that has no JSON form; it is as it was told last then.
        """
        if not self.live and not self._told:
            return None
        try:
            now = {key: self._encoded(value) for key, value in self.live.items()}
            changed = {key: data for key, data in now.items() if self._told.get(key) != data}
            removed = encode([key for key in self._told if key not in now])
            fields = b",".join(encode(key) + b":" + data for key, data in changed.items())
        except EncodeError as error:
            self.live.clear()
            self.live.update((key, from_json(data)) for key, data in self._told.items())
            raise EncodeError(f"the state of the run cannot be written as JSON: {error}") from error
        self._told = now
        if not changed and removed == b"[]":
            return None
        return b'{"set":{' + fields + b'},"removed":' + removed + b"}"

    def _encoded(self, value: Any) -> bytes:
        return encode(value, self._depth - 2)
