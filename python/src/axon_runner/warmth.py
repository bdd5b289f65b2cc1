"""What the launcher has imported and tried, and what it cannot fork because of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from functools import partial

from axon_runner import trial
from axon_runner.user_code import USER_ERRORS, as_text

# Rust waits for the answer meanwhile, and so does the news of runners that end.
_TRIAL_SECONDS = 15.0
# The model that needs no provider stands for what every runner needs.
_BASE = "test"


class Warmth:
    """Which providers are warm. One that cannot be is cold; all are when this process is unfit."""

    def __init__(self) -> None:
        # By provider, why it is cold; nothing if it is warm.
        self._known: dict[str, str] = {}
        self._unfit = "" if sys.platform == "linux" else "this is not Linux"

    def missing(self, providers: Iterable[str], others: bool) -> str:
        """Says why a runner with models of `providers` cannot be forked; nothing if it can.

        Warms up what is not yet. With `others`, runners that live, a provider is tried in a child
        first: what one agent asks for must not end those of others.
        """
        deadline = time.monotonic() + _TRIAL_SECONDS
        wanted = [_BASE, *providers]
        for name in wanted:
            if not self._unfit and name not in self._known:
                tried = others and name != _BASE
                failed = trial.run(partial(_try, name), deadline) if tried else ""
                self._known[name] = failed or self._warm_up(name)
        if not self._unfit and (threads := _threads()) != 1:
            self._unfit = f"an imported package has started threads: there are {threads}"
        return self._unfit or next((why for name in wanted if (why := self._known[name])), "")

    def _warm_up(self, name: str) -> str:
        cold = _warm(name)
        if name == _BASE:
            self._unfit = cold
        if not self._unfit and (threads := _threads()) != 1:
            self._unfit = f"{_left_threads(name)}: there are {threads}"
        return cold


def _try(name: str) -> str:
    return _warm(name) or (_left_threads(name) if _threads() != 1 else "")


def _warm(name: str) -> str:
    try:
        from axon_runner import preflight

        preflight.check()
        from axon_runner.warm import warm

        failed = warm(() if name == _BASE else (name,))
    except USER_ERRORS as error:  # the runner itself will say what is wrong
        return f"warming up failed: {type(error).__name__}: {as_text(error)}"
    # Without the rehearsal of the base a runner is slower, and no more.
    return "" if name == _BASE else failed.get(name, "")


def _left_threads(name: str) -> str:
    return f"warming up {name} has left threads behind"


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
