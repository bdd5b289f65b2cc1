"""Fixtures of every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import Runner
from support import CALLABLES


@pytest.fixture(scope="session")
def one_runner() -> Iterator[Runner]:
    """The runner of all the tests that leave it as they found it."""
    with Runner(callables=CALLABLES, env={"BANK_KEY": "s3cret-bank-key"}) as runner:
        assert runner.first["type"] == "ready", runner.first
        yield runner


@pytest.fixture
def shared(one_runner: Runner) -> Iterator[Runner]:
    """That runner for one test; what the test left open is closed."""
    yield one_runner
    one_runner.release()
