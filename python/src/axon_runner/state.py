"""The state that a run carries: an object that its caller gives and its tools change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from axon_runner.encode import encode
from axon_runner.wire import StatePatch


class State:
    """The state as the attempt's tools see it, and how much of it Rust knows.

    Rust keeps it. What Python tools change is told when their call ends, by top-level keys, so
    that calls which change different keys at the same time do not undo each other's work.
    """

    def __init__(self, given: dict[str, Any] | None) -> None:
        self.live: dict[str, Any] = given or {}
        self._told = deepcopy(self.live)

    def apply(self, patch: StatePatch) -> None:
        """Takes in what a Rust tool has changed."""
        for key in patch.removed:
            self.live.pop(key, None)
            self._told.pop(key, None)
        self.live.update(patch.set)
        self._told.update(deepcopy(patch.set))

    def changes(self, depth: int) -> bytes | None:
        """Returns what has changed since the last time, as JSON; nothing if nothing has.

        Raises `EncodeError` for a state that has no JSON form.
        """
        if self.live == self._told:
            return None
        changed = {
            key: value
            for key, value in self.live.items()
            if key not in self._told or self._told[key] != value
        }
        removed = [key for key in self._told if key not in self.live]
        data = encode({"set": changed, "removed": removed}, depth)
        self._told = deepcopy(self.live)
        return data
