"""The index over a folder of documents."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
import research
from research import folder
from research.folder import FolderMissing, FolderTooLarge, NoDocuments, read_documents
from research.index import EXCERPT_CHARACTERS, MAX_TERMS, Index
from research.result import Result

DOCUMENTS = Path(research.__file__).parent / "documents"


def search(query: str, limit: int = 4, docs: Path = DOCUMENTS) -> list[Result]:
    return search_all([query], limit, docs)[0]


def search_all(
    queries: Iterable[str], limit: int = 4, docs: Path = DOCUMENTS
) -> list[list[Result]]:
    async def go() -> list[list[Result]]:
        with closing(await Index.open(docs)) as index:
            return await asyncio.gather(*(index.search(query, limit) for query in queries))

    return asyncio.run(go())


def sources(results: Iterable[Result]) -> list[str]:
    return [result.source for result in results]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    made.mkdir()
    (made / "whales.md").write_text("# Whales\n\nWhales sing. A whale is no fish.\n")
    (made / "notes.txt").write_text("The harbour freezes in winter.\n")
    return made


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("Fresnel lens", "fresnel-lens.md"),
        ("how was the Eddystone tower destroyed", "eddystone.md"),
        ("diaphone", "fog-signals.md"),
        ("lighthouses automated", "automation.md"),
        ("shipwreck statistics", "shipwrecks.md"),
        ("GRACE darling", "rescues.md"),
        ("Aime Argand lamps", "lamps-and-fuels.md"),
        ("jammed satellite signal", "satellites.md"),
    ],
)
def test_the_best_document_comes_first(query: str, best: str) -> None:
    assert sources(search(query))[0] == best


def test_results_are_ranked_and_no_more_than_asked_for() -> None:
    scores = [result.score for result in search("keepers of rock lighthouses", limit=10)]
    assert len(scores) > 4
    assert scores == sorted(scores, reverse=True)
    assert len(search("keepers of rock lighthouses", limit=2)) == 2
    assert search("keepers", limit=0) == search("keepers", limit=-1) == []


def test_a_title_counts_more_than_the_text(docs: Path) -> None:
    (docs / "other.md").write_text("# Harbours\n\nSomething else, and more of it.\n")
    assert sources(search("harbour", docs=docs)) == ["other.md", "notes.txt"]


def test_an_excerpt_is_the_passage_that_fits_and_stands_in_the_document() -> None:
    for query in ["mercury bath", "sun valve", "Tyndall sound fog", "load line", "keepers"]:
        for result in search(query):
            text = " ".join((DOCUMENTS / result.source).read_text(encoding="utf-8").split())
            assert result.excerpt in text
            assert 0 < len(result.excerpt) <= EXCERPT_CHARACTERS
    assert search("mercury bath")[0].excerpt.startswith("From the 1890s they floated on a bath of")


def test_an_excerpt_of_a_text_without_sentences_is_cut_around_what_was_found(docs: Path) -> None:
    words = [f"word{number}" for number in range(2000)]
    (docs / "long.txt").write_text(" ".join(words))
    [result] = search("word1500", docs=docs)
    assert "word1500" in result.excerpt
    assert result.excerpt.startswith("… ")
    assert result.excerpt.endswith(" …")
    assert len(result.excerpt) <= EXCERPT_CHARACTERS + 4


def test_the_title_is_the_first_heading_or_the_name_of_the_file(docs: Path) -> None:
    (docs / "blank.md").write_text("\n\n## After blank lines ##\r\ntext about seals\r\n")
    assert [search(word, docs=docs)[0].title for word in ["whale", "winter", "seals"]] == [
        "Whales",
        "notes.txt",
        "After blank lines",
    ]


HOSTILE = [
    '"', '""', "'", "' OR 1=1 --", 'light" OR "x', "light*", "^light", "-light", "title:light",
    "{title body}: light", "NEAR(light keeper, 5)", "NEAR", "light AND", "OR light", "NOT light",
    "NOT", "(light", "light)", "light + keeper", "\\", "%", "_", "light_house", "light;",
    "; DROP TABLE documents", "light\x00house", "\x00", "\x01light\x02", "\ud800", "li\ud800ght",
    "🔥", "светлый", "灯台", "o'clock's", "light " * 5000, "x" * 100_000, "\n\t\r", "",
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE, ids=ascii)
def test_no_query_is_a_syntax_error(query: str) -> None:
    results = search(query)
    assert results or "light" not in query.replace("light_house", "")


def test_no_random_query_is_a_syntax_error() -> None:
    dice = random.Random(7)
    alphabet = "\"'()*+-:^{},;\\_\x00\x01\x02 \nlightNEAROTD\u2019é\ud800"
    queries = ["".join(dice.choices(alphabet, k=dice.randint(1, 40))) for _ in range(500)]
    assert len(search_all(queries)) == 500


def test_operators_are_words_like_others() -> None:
    assert "automation.md" in sources(search("keepers NOT automation"))
    assert sources(search("diaphone AND bitcoin")) == ["fog-signals.md"]


def test_words_that_nearly_every_text_has_find_nothing() -> None:
    assert search("What is the price of bitcoin?") == []
    assert search("why and how") == []


def test_only_the_first_words_of_a_long_query_count() -> None:
    many = " ".join(f"nothing{number}" for number in range(MAX_TERMS))
    assert search(f"{many} diaphone") == []
    assert search(f"diaphone {many}")


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderMissing, match=r"there is no folder .*nowhere.*the dep `docs`"):
        search("x", docs=tmp_path / "nowhere")
    file = tmp_path / "file.md"
    file.write_text("text")
    with pytest.raises(FolderMissing):
        search("x", docs=file)


def test_a_relative_folder_is_looked_for_from_the_working_directory(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(docs.parent)
    assert search("whale", docs=Path("docs"))
    with pytest.raises(FolderMissing, match=f"looked for it from {docs.parent}"):
        search("whale", docs=Path("other"))


def test_a_folder_without_documents_says_what_a_document_is(tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text(" \n\t\n")
    (tmp_path / "program.py").write_text("print('whale')")
    (tmp_path / ".hidden.md").write_text("whale")
    with pytest.raises(NoDocuments, match=r"only \.md and \.txt files"):
        search("whale", docs=tmp_path)


def test_folders_that_are_too_large_are_refused(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value, says in [
        ("MAX_DOCUMENTS", 1, "more than 1 documents"),
        ("MAX_BYTES", 50, "more than 0 KiB"),
        ("MAX_ENTRIES", 1, "more than 1 files and folders"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(folder, limit, value)
            with pytest.raises(FolderTooLarge, match=says):
                search("whale", docs=docs)
    assert search("whale", docs=docs)


def test_links_that_leave_the_folder_are_ignored(docs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("secret whale")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "inner.md").write_text("secret whale")
    (docs / "link.md").symlink_to(secret)
    (docs / "up.md").symlink_to("../secret.md")
    (docs / "linked").symlink_to(elsewhere)
    (docs / "loop.md").symlink_to("loop.md")
    (docs / "dangling.md").symlink_to("gone.md")
    (docs / "same.md").symlink_to("whales.md")
    found = [document.source for document in read_documents(docs)]
    assert found in (["notes.txt", "same.md"], ["notes.txt", "whales.md"])
    assert search("secret", docs=docs) == []


def test_a_link_to_the_folder_itself_is_followed(docs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(docs)
    assert sources(search("whale", docs=tmp_path / "link")) == ["whales.md"]


def test_what_is_no_file_is_not_read(docs: Path) -> None:
    os.mkfifo(docs / "pipe.md")
    (docs / "folder.md").mkdir()
    (docs / "folder.md" / "deep.MD").write_text("whale")
    assert sorted(sources(search("whale", docs=docs))) == ["folder.md/deep.MD", "whales.md"]


def test_bytes_that_are_no_text_are_replaced(docs: Path) -> None:
    (docs / "broken.txt").write_bytes(b"\xef\xbb\xbfA walrus \xff\xfe sleeps.\x00\x01\x02\n")
    [result] = search("walrus", docs=docs)
    assert result.excerpt == "A walrus \ufffd\ufffd sleeps."


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_file_name_that_is_no_text_can_be_told(docs: Path) -> None:
    (docs / os.fsdecode(b"b\xffd.md")).write_text("A walrus sleeps.")
    [result] = search("walrus", docs=docs)
    assert json.dumps(result.source).encode() == rb'"b\ufffdd.md"'


def test_the_next_opening_sees_what_changed(docs: Path) -> None:
    assert search("walrus", docs=docs) == []
    (docs / "new.md").write_text("A walrus.")
    assert sources(search("walrus", docs=docs)) == ["new.md"]


def test_the_documents_that_come_with_it_are_short_texts_with_a_title() -> None:
    documents = read_documents(DOCUMENTS)
    assert 10 <= len(documents) <= 12
    for document in documents:
        assert document.title != Path(document.source).name
        assert 150 <= len(document.body.split()) <= 350, document.source
    assert "written for this project" in (DOCUMENTS / "ABOUT").read_text(encoding="utf-8")
