"""Checks that no file is longer than 600 lines and no Python function longer than 60.

Clippy checks the length of Rust functions.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import repository

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60


def findings(path: Path, text: str) -> Iterator[str]:
    """Yields what is too long in one source file."""
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, at most {MAX_FILE_LINES}: split it by noun"
    if path.suffix == ".py":
        yield from _functions(path, text)


def _functions(path: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                where = f"{path}:{node.lineno}"
                yield f"{where}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"


def main() -> None:
    sources = list(repository.files(repository.ROOT, ".rs", ".py"))
    found = [
        finding
        for path in sources
        for finding in findings(path, repository.text(repository.ROOT / path) or "")
    ]
    repository.report("lengths", f"{len(sources)} source files", found)


if __name__ == "__main__":
    main()
