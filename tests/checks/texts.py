"""Checks what no file may say: where it was made, a package registry of somebody's own, loose ends.

A path of one machine or the host of a private mirror breaks every other clone, and a marker
without an issue is a promise that nobody can find.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import repository

PUBLIC_REGISTRIES = {
    "crates.io",
    "files.pythonhosted.org",
    "github.com",
    "index.crates.io",
    "pypi.org",
    "registry.npmjs.org",
    "static.crates.io",
}
LOCK_NAME = re.compile(r"(\.lock|-lock\.(json|yaml)|pylock\.toml)$")
URL_HOST = re.compile(r"\b(?:https?|git|ssh)(?:\+\w+)?://(?:[^/\s@\"']*@)?([\w.-]+)")
REGISTRY_SETTING = re.compile(
    r"--(?:extra-)?index-url|--default-index|--find-links|--trusted-host|replace-with"
    r"|(?:PIP|UV)_\w*INDEX\w*=|\b(?:extra-)?index-url\s*=|crates-io\.index"
)
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}/-])(?:/(?:home|Users)/(?!(?:me|you|user|alice)/)\w[\w.-]*|/root|/work)/"
    r"|\b[A-Z]:\\+Users\\+\w"
)
MARKER = re.compile(r"\b(?:TOD[O]|FIXM[E]|HAC[K]|XX[X])\b(?!\(#\d+\)| #\d+)")  # such as TODO(#12)


def findings(path: Path, text: str, root: Path) -> Iterator[str]:
    """Yields what one file should not say."""
    is_lock = LOCK_NAME.search(path.name) is not None
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        if MACHINE_PATH.search(line) or f"{root}/" in line:
            yield f"{where}: path of one machine: {line.strip()[:100]}"
        if MARKER.search(line):
            yield f"{where}: marker without an issue, write it with (#12): {line.strip()[:100]}"
        if is_lock or REGISTRY_SETTING.search(line):
            for host in sorted(set(URL_HOST.findall(line)) - PUBLIC_REGISTRIES):
                yield f"{where}: {host} is no public package registry"


def main() -> None:
    looked_at = 0
    found: list[str] = []
    for path in repository.files(repository.ROOT):
        text = repository.text(repository.ROOT / path)
        if text is not None:
            looked_at += 1
            found += findings(path, text, repository.ROOT)
    repository.report("texts", f"{looked_at} text files", found)


if __name__ == "__main__":
    main()
