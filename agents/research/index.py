"""A full-text index over a folder of documents, in memory."""

import asyncio
import re
import sqlite3
import threading
from pathlib import Path

from research.folder import Document, read_documents
from research.result import Result
from research.sentences import sentences
from research.words import content_words

MAX_TERMS = 32
"""How many words of a query count."""
EXCERPT_CHARACTERS = 400
_TITLE_WEIGHT = 4.0

# What marks a found word in a text: no document has these, see `folder`.
_MARK, _UNMARK = "\x01", "\x02"
_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=#)")
_FOUND = re.compile(f"{_MARK}([^{_UNMARK}]*){_UNMARK}")


class Index:
    """The documents of one folder, as they were when it was opened.

    Indexing and queries run on threads, so the event loop never waits.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._in_use = threading.Lock()  # a cancelled run may close while its query still runs

    @classmethod
    async def open(cls, folder: Path) -> "Index":
        """Reads and indexes the documents of `folder`; raises `folder.DocumentsError`."""
        return cls(await asyncio.to_thread(_build, folder))

    async def search(self, query: str, limit: int) -> list[Result]:
        """Returns the documents that have any of the query's words, the best first.

        A query is words and nothing else: no character in it is syntax.
        """
        terms = _terms(query)
        return await asyncio.to_thread(self._search, terms, limit) if terms else []

    def close(self) -> None:
        """Closes the index, after any query that still runs."""
        with self._in_use:
            self._connection.close()

    def _search(self, terms: str, limit: int) -> list[Result]:
        with self._in_use:
            rows = self._connection.execute(
                "SELECT source, title, highlight(documents, 2, ?, ?),"
                " bm25(documents, 0.0, ?, 1.0) AS distance FROM documents"
                " WHERE documents MATCH ? ORDER BY distance, source LIMIT ?",
                (_MARK, _UNMARK, _TITLE_WEIGHT, terms, max(limit, 0)),
            ).fetchall()
        return [Result(row[0], row[1], _excerpt(row[2]), round(-row[3], 6)) for row in rows]


def _build(folder: Path) -> sqlite3.Connection:
    documents = read_documents(folder)
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        _fill(connection, documents)
    except BaseException:
        connection.close()
        raise
    return connection


def _fill(connection: sqlite3.Connection, documents: list[Document]) -> None:
    connection.execute(
        "CREATE VIRTUAL TABLE documents"
        " USING fts5(source UNINDEXED, title, body, tokenize = 'porter unicode61')"
    )
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO documents (source, title, body) VALUES (?, ?, ?)",
        ((document.source, document.title, document.body) for document in documents),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA query_only = ON")


def _terms(query: str) -> str:
    """Returns the words of the query in quotes, between which FTS5 knows no syntax."""
    words = dict.fromkeys(word.casefold() for word in content_words(query))
    return " OR ".join(f'"{word}"' for word in list(words)[:MAX_TERMS])


def _excerpt(marked: str) -> str:
    """Returns the sentence with the most of the found words, and those after it that fit in."""
    paragraphs = [sentences(text) for text in _PARAGRAPH_END.split(marked)]
    places = [(paragraph, at) for paragraph in paragraphs for at in range(len(paragraph))]
    if not places:
        return ""
    paragraph, at = max(places, key=lambda place: _found(place[0][place[1]]))
    excerpt = _plain(paragraph[at])
    if len(excerpt) > EXCERPT_CHARACTERS:
        return _cut(paragraph[at])
    for sentence in paragraph[at + 1 :]:
        longer = f"{excerpt} {_plain(sentence)}"
        if len(longer) > EXCERPT_CHARACTERS:
            break
        excerpt = longer
    return excerpt


def _found(sentence: str) -> int:
    return len({word.casefold() for word in _FOUND.findall(sentence)})


def _cut(marked: str) -> str:
    """Returns the part of a long sentence that begins a little before its first found word."""
    begin = max(0, marked.find(_MARK) - EXCERPT_CHARACTERS // 4)
    part = _plain(marked[begin:])[:EXCERPT_CHARACTERS]
    return "… " * (begin > 0) + part + " …"


def _plain(marked: str) -> str:
    return marked.replace(_MARK, "").replace(_UNMARK, "")
