"""What cargo says about the workspace."""

import json
import subprocess
from typing import Any

import repository


def metadata() -> dict[str, Any]:
    """Returns `cargo metadata` of the workspace and all that it depends on."""
    out: dict[str, Any] = json.loads(_cargo("metadata", "--format-version", "1"))
    return out


def tree(package: str) -> set[str]:
    """Returns the names of all that `package` links, on any platform, itself left out.

    `cargo metadata` would not do: it unites the features that all members ask for.
    """
    options = ["--edges", "normal", "--target", "all", "--prefix", "none", "--format", "{p}"]
    lines = _cargo("tree", "--package", package, *options).splitlines()
    return {line.split()[0] for line in lines if line} - {package}


def _cargo(command: str, *options: str) -> str:
    line = ["cargo", command, "--locked", *options]
    return subprocess.run(
        line, cwd=repository.ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
