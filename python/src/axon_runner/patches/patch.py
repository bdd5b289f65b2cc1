"""One change of a library: what it is for, what it was tried with, and what has become of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import metadata
from typing import Any

ON = "on"


class Unfit(Exception):
    """The library is not what the patch was written for."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A change that makes something cheaper and changes nothing else.

    `install` compares what it brings with what is there, on samples, before it puts it there.
    """

    name: str
    module: str
    """Which has been imported when the change can be made and is of use."""
    distribution: str
    tried: tuple[tuple[int, ...], tuple[int, ...]]
    """The lowest version, and the first that is too high."""
    install: Callable[[Any], None]
    """Takes the module; raises `Unfit`, or anything else, when it is not to be used."""

    @property
    def due(self) -> bool:
        """Says whether the library is there."""
        return self.module in sys.modules

    def apply(self) -> str:
        """Makes the change and returns `on`, or makes none and returns why not."""
        found = metadata.version(self.distribution)
        lowest, beyond = self.tried
        if not lowest <= _numbers(found) < beyond:
            return f"off: it was not tried with {self.distribution} {found}"
        try:
            self.install(sys.modules[self.module])
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the library stays as it is
            return f"off: {type(error).__name__}: {error}"
        return ON


def unchanged(function: Callable[..., Any], *parameters: str) -> None:
    """Raises `Unfit` unless `function` takes these parameters."""
    found = tuple(inspect.signature(function).parameters)
    if found != parameters:
        raise Unfit(f"{function.__qualname__} takes {', '.join(found)}")


def alike(ours: Any, theirs: Any) -> None:
    """Raises `Unfit` unless both are equal, and of the same type."""
    if type(ours) is not type(theirs) or ours != theirs:
        raise Unfit("the results of a sample differ")


def at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Returns the result of a coroutine that waits for nothing; raises `Unfit` if it does."""
    try:
        call.send(None)
    except StopIteration as stop:
        return stop.value
    call.close()
    raise Unfit("a sample waits for something")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
