"""Checks where each Rust package comes from, and that we accept its licence."""

import re
from collections.abc import Iterator
from typing import Any

import cargo
import repository

ACCEPTED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}
PUBLIC_SOURCE = "registry+https://github.com/rust-lang/crates.io-index"


def is_accepted(expression: str) -> bool:
    """Says whether an SPDX expression leaves us a choice that we accept.

    `OR` needs one accepted side, `AND` both; a slash is the old way to write `OR`.
    """
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    accepted, rest = _alternatives(tokens)
    return accepted and not rest


def _alternatives(tokens: list[str]) -> tuple[bool, list[str]]:
    accepted, rest = _conjunction(tokens)
    while rest and rest[0] in {"OR", "/"}:
        right, rest = _conjunction(rest[1:])
        accepted = accepted or right
    return accepted, rest


def _conjunction(tokens: list[str]) -> tuple[bool, list[str]]:
    accepted, rest = _licence(tokens)
    while rest and rest[0] == "AND":
        right, rest = _licence(rest[1:])
        accepted = accepted and right
    return accepted, rest


def _licence(tokens: list[str]) -> tuple[bool, list[str]]:
    if not tokens:
        return False, ["a licence is missing"]
    if tokens[0] == "(":
        accepted, rest = _alternatives(tokens[1:])
        return (accepted, rest[1:]) if rest[:1] == [")"] else (False, rest)
    if tokens[1:2] == ["WITH"]:
        return " ".join(tokens[:3]) in ACCEPTED, tokens[3:]
    return tokens[0] in ACCEPTED, tokens[1:]


def findings(metadata: dict[str, Any]) -> Iterator[str]:
    """Yields the packages whose licence or source we do not accept."""
    ours = set(metadata["workspace_members"])
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if licence is None or not is_accepted(licence):
            yield f"{name}: licence {licence or 'unknown'} is not in the accepted list"
        if package["id"] not in ours and package["source"] != PUBLIC_SOURCE:
            yield f"{name}: from {package['source'] or 'a path'}, not from the public registry"


def main() -> None:
    metadata = cargo.metadata()
    repository.report("licences", f"{len(metadata['packages'])} packages", findings(metadata))


if __name__ == "__main__":
    main()
