"""Checks the interpreter and its packages before anything heavy is imported."""

from __future__ import annotations

import sys
from importlib import metadata

TESTED = "2.68.0"
TESTED_RANGE = ">=2.60,<3"
_LOWEST = (2, 60)
_BELOW = (3, 0)
_PYTHON = (3, 11)


class Unusable(Exception):
    """This Python environment cannot run the runner; the message says how to mend it."""


def check() -> str:
    """Returns the version of pydantic-ai.

    Raises `Unusable` when Python or pydantic-ai is missing, too old or too new.
    """
    if sys.version_info[:2] < _PYTHON:
        raise Unusable(
            "the runner needs Python 3.11 or newer; {} is {}.{}".format(
                sys.executable, *sys.version_info[:2]
            )
        )
    try:
        found = metadata.version("pydantic-ai-slim")
    except metadata.PackageNotFoundError:
        raise Unusable(f"pydantic-ai is not installed; {_remedy()}") from None
    if not _LOWEST <= _major_minor(found) < _BELOW:
        raise Unusable(
            f"pydantic-ai {found} is outside the tested range {TESTED_RANGE}; {_remedy()}"
        )
    return found


def _major_minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _remedy() -> str:
    return f"run: {sys.executable} -m pip install 'pydantic-ai-slim[openai]=={TESTED}'"
