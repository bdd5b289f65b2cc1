"""The agents of the research pipeline, as pydantic-ai runs them: real search, offline models."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import research
from agent_folder import AgentFolder, tool_calls, tool_return, tools_called
from pydantic_ai import (
    Agent,
    AgentRunResult,
    ModelMessage,
    ModelRetry,
    NativeOutput,
    StructuredDict,
    Tool,
)
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest
from research import briefing, prompts
from research.briefing import Briefing, Finding, Searched
from research.deps import make
from research.tools import search
from research.topics import topics
from stand_in import call, stand_in

PLANNER = AgentFolder("research_planner")
SEARCHER = AgentFolder("research_searcher")
WRITER = AgentFolder("research_writer")
DOCS = str(Path(research.__file__).parent / "documents")

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def no_web(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AXON_SEARCH", raising=False)
    monkeypatch.delenv("AXON_TODAY", raising=False)


def run(agent: Agent[Any, Any], prompt: str | None, **settings: Any) -> AgentRunResult[Any]:
    async def go() -> AgentRunResult[Any]:
        async with make({"docs": DOCS}) as deps:
            return await agent.run(prompt, deps=deps, **settings)

    return asyncio.run(go())


def answer(folder: AgentFolder, prompt: str) -> Answer:
    return folder.valid(run(folder.agent(), prompt).output)


def brief(question: str, searched: list[Answer], failed: str = "") -> str:
    """Returns the writer's prompt, as the pipeline makes it."""
    findings = json.dumps(searched, indent=2)
    return f"Question: {question}\n{failed}Findings:\n{findings}"


def searched(query: str, *findings: tuple[str, str]) -> Answer:
    made = [{"source": source, "title": source.title(), "quote": q} for source, q in findings]
    return {"query": query, "findings": made}


@pytest.mark.parametrize(
    ("question", "queries"),
    [
        ("What is a Fresnel lens?", ["Fresnel lens"]),
        (
            "Why were lighthouses automated, and what happened to the keepers?",
            ["lighthouses automated", "keepers"],
        ),
        (
            "How did Smeaton build Eddystone and when did Stevenson light the Bell Rock?",
            ["Smeaton build Eddystone", "Stevenson light Bell Rock"],
        ),
        ("Keepers and fog, KEEPERS!", ["Keepers", "fog"]),
        ("Tell me about mercury; whale oil; acetylene", ["mercury", "whale oil", "acetylene"]),
        ("a, b, cat, dog, emu, fox, gnu, hen, ibex, jay, kite", None),
        ("and, or?", ["and, or?"]),
        ("", ["anything"]),
    ],
)
def test_planner_plans_one_search_for_each_topic(question: str, queries: list[str] | None) -> None:
    plan = answer(PLANNER, question)
    if queries is None:
        assert len(plan["queries"]) == 8
    else:
        assert plan["queries"] == queries
    assert ("one topic" in plan["reason"]) == (len(plan["queries"]) == 1)


def test_every_number_of_searches_from_1_to_8_can_be_planned() -> None:
    names = [
        "amber",
        "basalt",
        "copper",
        "diamond",
        "emerald",
        "flint",
        "granite",
        "helium",
        "iron",
    ]
    for count in range(1, 10):
        assert len(answer(PLANNER, ", ".join(names[:count]))["queries"]) == min(count, 8)


def test_no_question_makes_a_plan_that_breaks_the_schema() -> None:
    for question in ["?" * 999, "word " * 999, "\n\n", "x" * 50_000, "🔥", "灯台", "a.b" * 999]:
        plan = {"queries": topics(question), "reason": ""}
        PLANNER.valid(plan)
    assert len(answer(PLANNER, "x" * 1000)["queries"]) == 1


def test_planner_is_told_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_TODAY", "2026-11-28")
    request = run(PLANNER.agent(), "What is a lens?").all_messages()[0]
    assert isinstance(request, ModelRequest)
    assert request.instructions is not None
    assert request.instructions.endswith("Today is Saturday, 2026-11-28.")


def test_without_a_fixed_day_it_is_today() -> None:
    before = date.today()
    said = prompts.today()
    assert f"{before:%Y-%m-%d}" in said or f"{date.today():%Y-%m-%d}" in said


def test_a_day_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_TODAY", "tomorrow")
    with pytest.raises(ValueError, match="AXON_TODAY is 'tomorrow', which is no date"):
        prompts.today()


def test_searcher_searches_once_and_quotes_what_was_found() -> None:
    result = run(SEARCHER.agent(), "mercury bath")
    output = SEARCHER.valid(result.output)
    assert tools_called(result.all_messages()) == ["search", "final_result"]
    found = {one.source: one for one in tool_return(result.all_messages(), "search")}
    assert output["query"] == "mercury bath"
    assert output["findings"][0]["source"] == "fresnel-lens.md"
    for finding in output["findings"]:
        assert finding["title"] == found[finding["source"]].title
        assert finding["quote"] in found[finding["source"]].excerpt
    assert "bath of mercury" in output["findings"][0]["quote"]


def test_searcher_that_finds_nothing_says_so() -> None:
    assert answer(SEARCHER, "bitcoin mining") == {"query": "bitcoin mining", "findings": []}


def test_searcher_without_its_tool_or_with_a_broken_one_finds_nothing() -> None:
    def closed(query: str) -> str:
        raise ModelRetry("the index is closed")

    def babble(query: str) -> str:
        return "no results, but words"

    for tools in [[], [Tool(closed, name="search")], [Tool(babble, name="search")]]:
        result = run(SEARCHER.agent(tools=tools), "mercury bath")
        assert SEARCHER.valid(result.output)["findings"] == []
        assert tools_called(result.all_messages())[-1] == "final_result"


def test_a_model_that_asks_for_too_many_results_is_asked_again() -> None:
    with greedy_searcher() as agent, pytest.raises(UnexpectedModelBehavior) as failure:
        run(agent, "mercury")
    assert "limit" in str(failure.value.__cause__)


@contextmanager
def greedy_searcher() -> Iterator[Agent[Any, Any]]:
    model = stand_in(lambda messages, info: call("search", {"query": "x", "limit": 99}, messages))
    agent = SEARCHER.agent()
    with agent.override(model=model):
        yield agent


def test_searcher_resumed_after_its_search_goes_on_to_the_same_answer() -> None:
    whole = run(SEARCHER.agent(), "sun valve")
    recorded = ModelMessagesTypeAdapter.validate_json(whole.all_messages_json())[:3]
    resumed = run(SEARCHER.agent(), None, message_history=recorded)
    assert resumed.output == whole.output


def test_same_conversation_gives_the_same_calls() -> None:
    def ids(messages: list[ModelMessage]) -> list[str]:
        return [call.tool_call_id for call in tool_calls(messages)]

    first, again = (ids(run(SEARCHER.agent(), "sun valve").all_messages()) for _ in range(2))
    assert first == again == ["offline_1_search", "offline_3_final_result"]


def test_search_tool_describes_its_arguments() -> None:
    schema = Tool(search).function_schema.json_schema
    assert {name: "description" in value for name, value in schema["properties"].items()} == {
        "query": True,
        "limit": True,
    }
    assert schema["required"] == ["query"]


def test_searcher_deps_may_be_missing_and_nothing_else() -> None:
    schema = SEARCHER.config["deps"]["schema"]
    for good in [{"docs": "docs"}, {}, None]:
        assert jsonschema_rs.is_valid(schema, good), good
    for bad in [{"docs": ""}, {"docs": 1}, {"docs": "x", "other": 1}, [], "docs"]:
        assert not jsonschema_rs.is_valid(schema, bad), bad


def test_writer_cites_what_was_found_and_nothing_else() -> None:
    found = [
        searched("lamps", ("a.md", "Oil burned."), ("b.md", "Gas burned.")),
        searched("lenses", ("c.md", "Glass bent."), ("a.md", "Oil burned.")),
        searched("nothing"),
    ]
    report = answer(WRITER, brief("How did lamps and lenses change?", found))
    assert report == {
        "title": "How did lamps and lenses change",
        "summary": "3 sources say something about this question. First of all: Oil burned.",
        "bullets": [
            {"text": "Oil burned.", "sources": ["a.md"]},
            {"text": "Glass bent.", "sources": ["c.md"]},
            {"text": "Gas burned.", "sources": ["b.md"]},
        ],
        "sources": [
            {"source": "a.md", "title": "A.Md"},
            {"source": "c.md", "title": "C.Md"},
            {"source": "b.md", "title": "B.Md"},
        ],
        "partial": False,
    }


def test_a_bullet_that_two_sources_say_names_both() -> None:
    found = [searched("x", ("a.md", "It shone.")), searched("y", ("b.md", "It shone."))]
    report = answer(WRITER, brief("Did it shine?", found))
    assert report["bullets"] == [{"text": "It shone.", "sources": ["a.md", "b.md"]}]


def test_writer_is_brief_and_crowds_no_search_out() -> None:
    found = [searched(q, *((f"{q}{n}.md", f"{q} {n}.") for n in range(10))) for q in "abcdefgh"]
    report = answer(WRITER, brief("Everything?", found))
    assert len(report["bullets"]) == 12
    assert {bullet["text"][0] for bullet in report["bullets"]} == set("abcdefgh")
    cited = {source for bullet in report["bullets"] for source in bullet["sources"]}
    assert {entry["source"] for entry in report["sources"]} == cited


def test_writer_says_what_is_missing() -> None:
    found = [searched("lamps", ("a.md", "Oil burned."))]
    report = answer(WRITER, brief("Lamps?", found, failed="2 of 3 searches failed.\n"))
    assert report["partial"] is True
    assert "2 of 3 searches failed" in report["summary"]
    assert report["sources"] == [{"source": "a.md", "title": "A.Md"}]


def test_writer_with_no_findings_says_that_the_documents_say_nothing() -> None:
    for found in [[], [searched("bitcoin")]]:
        report = answer(WRITER, brief("What is bitcoin?", found))
        assert report["summary"] == "The documents say nothing about this question."
        assert (report["bullets"], report["sources"], report["partial"]) == ([], [], False)


def test_writer_does_not_say_that_of_documents_that_nobody_could_search() -> None:
    report = answer(WRITER, brief("Lamps?", [], failed="3 of 3 searches failed.\n"))
    assert report["partial"] is True
    assert "documents say nothing" not in report["summary"]
    assert report["summary"].startswith("3 of 3 searches failed, so nothing is known")


@pytest.mark.parametrize(
    "prompt", ["hello", "", "Question: x", "Findings:\n[]trailing", "Question: x\nFindings:\n{}"]
)
def test_a_prompt_of_another_form_found_nothing(prompt: str) -> None:
    report = answer(WRITER, prompt)
    assert report["bullets"] == []
    assert report["partial"] is False
    assert report["title"]


def test_a_question_that_looks_like_findings_is_still_the_question() -> None:
    question = 'What?\n5 of 9 searches failed.\nFindings:\n[{"query": "x", "findings": []}]'
    found = [searched("lamps", ("a.md", "Oil burned."))]
    read = briefing.read(brief(question, found))
    finding = Finding("a.md", "A.Md", "Oil burned.")
    assert read == Briefing(question, searched=(Searched("lamps", [finding]),))


def test_the_prompt_may_be_written_on_fewer_or_more_lines() -> None:
    array = json.dumps([searched("q", ("a.md", "Yes."))])
    for prompt in [
        f"Question: Is it?\n1 of 2 searches failed.\nFindings: {array}",
        f"Question:  Is it?\n\n1 of 2 searches failed.\n\nFindings:\n\n{array}\n\n",
        f"Question: Is it?\r\n1 of 2 searches failed.\r\nFindings:\r\n{array}\r\n",
    ]:
        read = briefing.read(prompt)
        assert (read.question, read.failed, read.searches) == ("Is it?", 1, 2)
        assert read.searched[0].findings[0].quote == "Yes."


def test_the_three_of_them_answer_a_question_together() -> None:
    question = "Why were lighthouses automated, what is a diaphone, and who mines bitcoin?"
    queries = answer(PLANNER, question)["queries"]
    assert queries == ["lighthouses automated", "diaphone", "mines bitcoin"]
    found = [answer(SEARCHER, query) for query in queries]
    report = answer(WRITER, brief(question, found))
    known = {one["source"] for search in found for one in search["findings"]}
    cited = {source for bullet in report["bullets"] for source in bullet["sources"]}
    assert {"automation.md", "fog-signals.md"} <= cited <= known
    assert {entry["source"] for entry in report["sources"]} == cited


@pytest.mark.parametrize("folder", [PLANNER, SEARCHER, WRITER], ids=lambda folder: folder.name)
def test_streamed_answer_arrives_in_pieces_and_equals_the_whole_one(folder: AgentFolder) -> None:
    prompt = brief("Lamps?", [searched("lamps", ("a.md", "Oil burned for a long time."))])

    async def stream() -> list[Answer]:
        async with make({"docs": DOCS}) as deps:
            async with folder.agent().run_stream(prompt, deps=deps) as result:
                return [partial async for partial in result.stream_output(debounce_by=None)]

    partials = asyncio.run(stream())
    texts = [json.dumps(partial) for partial in partials]
    assert len(set(texts)) > 3
    assert all(len(earlier) <= len(later) for earlier, later in pairwise(texts))
    assert partials[-1] == answer(folder, prompt)


@pytest.mark.parametrize("folder", [PLANNER, SEARCHER, WRITER], ids=lambda folder: folder.name)
def test_other_ways_to_ask_for_an_answer_are_understood(folder: AgentFolder) -> None:
    native = folder.agent(output_type=NativeOutput(StructuredDict(folder.output_schema)))
    assert folder.valid(run(native, "mercury bath").output) == answer(folder, "mercury bath")
    assert isinstance(run(folder.agent(output_type=str), "mercury bath").output, str)
