"""The documents in a folder, read within limits."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".md", ".txt")
MAX_DOCUMENTS = 500
MAX_BYTES = 4 * 1024 * 1024
"""How large all documents together may be: they are indexed anew for each run."""
MAX_ENTRIES = 20_000
"""How many files and folders are looked at to find them."""

_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*\s*$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Document:
    """One text of the folder."""

    source: str
    """Its path within the folder, with `/` between the parts."""
    title: str
    body: str


class DocumentsError(Exception):
    """The folder's documents cannot be searched."""


class FolderMissing(DocumentsError):
    """There is no such folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no folder {folder} (looked for it from {Path.cwd()}), so there are no"
            " documents to search; name one that exists in the dep `docs`"
        )


class NoDocuments(DocumentsError):
    """The folder has nothing that can be searched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} has no documents: only {' and '.join(SUFFIXES)} files with text in them"
            " are searched; add some, or name another folder in the dep `docs`"
        )


class FolderTooLarge(DocumentsError):
    """The folder has more than can be indexed for one run."""

    def __init__(self, folder: Path, limit: str) -> None:
        super().__init__(
            f"{folder} is too large to index for each run: it has more than {limit};"
            " name a smaller folder in the dep `docs`"
        )


def read_documents(folder: Path) -> list[Document]:
    """Returns the documents of the folder, sorted by source.

    Hidden files are left out, and links that lead out of the folder, so that a folder which
    somebody else made shows no other file of this machine. Raises `DocumentsError`.
    """
    if not folder.is_dir():
        raise FolderMissing(folder)
    documents: list[Document] = []
    left = MAX_BYTES
    for source, path in _files(folder):
        content = _read(path, left)
        if content is None:
            continue
        left -= len(content)
        if left < 0:
            raise FolderTooLarge(folder, f"{MAX_BYTES // 1024} KiB of text")
        document = _document(source, content.decode("utf-8", errors="replace"))
        if document is None:
            continue
        documents.append(document)
        if len(documents) > MAX_DOCUMENTS:
            raise FolderTooLarge(folder, f"{MAX_DOCUMENTS} documents")
    if not documents:
        raise NoDocuments(folder)
    return sorted(documents, key=lambda document: document.source)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the source of each file that may be a document, and where it really lies."""
    root = Path(os.path.realpath(folder))
    seen: set[Path] = set()
    entries = 0
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        entries += len(folders) + len(files)
        if entries > MAX_ENTRIES:
            raise FolderTooLarge(folder, f"{MAX_ENTRIES} files and folders")
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            target = Path(os.path.realpath(path))
            if target.is_relative_to(root) and target.is_file() and target not in seen:
                seen.add(target)
                source = path.relative_to(root).as_posix()
                yield os.fsencode(source).decode("utf-8", errors="replace"), target


def _read(path: Path, limit: int) -> bytes | None:
    """Returns the file's content, at most one byte more than `limit`; None if it is gone."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None


def _document(source: str, text: str) -> Document | None:
    lines = [_CONTROL.sub(" ", line) for line in text.removeprefix("\ufeff").splitlines()]
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return None
    heading = _HEADING.match(lines[first].strip())
    if heading and heading[1]:
        return Document(source, heading[1], "\n".join(lines[first + 1 :]).strip())
    return Document(source, Path(source).name, "\n".join(lines).strip())
