"""What the launcher does about providers that cannot be warmed, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import DEADLINE, SOURCES

# In place of the real `warm`: what a provider does is its name.
_BEFORE = f"""
import os, signal, sys, threading, time, types
sys.path.insert(0, {str(SOURCES)!r})
from axon_runner import kernel, warmth
kernel.adopt_orphans()
warmed = []

def warm(names):
    for name in names:
        warmed.append(name)
        if name.startswith("fails"):
            return {{name: name + " it does"}}
        if name == "raises":
            raise ValueError("raised")
        if name == "exits":
            os._exit(0)
        if name == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "hangs":
            signal.pause()
        if name == "threads":
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        if name == "spawns":
            if os.fork() == 0:
                signal.pause()
            os.waitid(os.P_ALL, 0, os.WEXITED)
    return {{}}

sys.modules["axon_runner.warm"] = types.SimpleNamespace(warm=warm)
from axon_runner import preflight
preflight.check = lambda: ""
warmth._TRIAL_SECONDS = 0.5
kept = warmth.Warmth()
"""


def run(code: str) -> None:
    """Runs a script in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", _BEFORE + code],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_only_agents_of_a_provider_that_fails_are_cold() -> None:
    run("""
assert kept.missing(["fails", "works"], False) == "fails it does"
assert kept.missing(["works"], False) == ""
assert kept.missing([], False) == ""
assert "ValueError: raised" in kept.missing(["raises"], False)
assert kept.missing(["works", "fails"], True) == "fails it does"
assert warmed == ["fails", "works", "raises"], "each of them once"
""")


def test_provider_that_leaves_threads_makes_all_cold_and_is_named() -> None:
    run("""
expected = "warming up threads has left threads behind: there are 2"
assert kept.missing(["threads"], False) == expected
assert kept.missing([], False) == expected
""")


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ("fails", "fails it does"),
        ("raises", "warming up failed: ValueError: raised"),
        ("exits", "its process ended with status 0"),
        ("crashes", f"its process ended with signal {11}"),
        ("hangs", "it took too long"),
        ("spawns", "it took too long"),
        ("threads", "warming up threads has left threads behind"),
    ],
)
def test_provider_that_fails_its_trial_is_cold_and_harms_nobody(provider: str, reason: str) -> None:
    run(f"""
assert kept.missing([], False) == ""
assert kept.missing([{provider!r}], True) == {reason!r}, kept.missing([{provider!r}], True)
assert warmed == [], "nothing was done in this process"
assert len(os.listdir("/proc/self/task")) == 1
assert kept.missing(["works"], True) == ""
assert warmed == ["works"]
assert kept.missing([{provider!r}], True) == {reason!r}
try:
    while os.wait():
        pass
except ChildProcessError:
    pass  # whoever it left behind has ended
""")
