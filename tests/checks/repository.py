"""The repository's files, as the checks see them: what is tracked, or `git add .` would add."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Yields the paths, relative to `root`, of the files whose names end in one of `suffixes`."""
    command = [
        "git",
        "-C",
        str(root),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in sorted(set(listed.split("\0")) - {""}):
        path = root / name
        if name.endswith(suffixes or "") and path.is_file() and not path.is_symlink():
            yield Path(name)


def text(path: Path) -> str | None:
    """Returns the file's text, or None for a binary file."""
    content = path.read_bytes()
    return None if b"\0" in content else content.decode("utf-8", errors="replace")


def report(name: str, looked_at: str, findings: Iterable[str]) -> None:
    """Prints the findings and ends the process: with 1 if there are any."""
    found = list(findings)
    for finding in found:
        print(f"{name}: {finding}", file=sys.stderr)
    print(f"{name}: {looked_at}, {len(found)} findings")
    sys.exit(1 if found else 0)
