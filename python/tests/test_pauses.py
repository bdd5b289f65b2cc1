"""A pause ends one process and what was decided comes to another: nothing is lost or done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_ai.tools import DeferredToolResults

from harness import Event, Json, Runner, Stream
from support import call, calls, request, spec, text

GOLDEN = Path(__file__).resolve().parents[2] / "crates/axon-kernel/src/wire/deferred/golden.json"
TOOLS = ["deposit", "pays", "elsewhere", "pays_if_approved"]
CALLABLES: list[Json] = [
    {"target": "scripted:model", "role": "model"},
    *({"target": f"ledger:{name}", "role": "tool", "effect": "once"} for name in TOOLS),
]
MODULE = "ledger:agent"

Start = Callable[[Json], Stream]


def tool(name: str, **fields: Any) -> Json:
    """A tool of the ledger."""
    return {"name": name, "target": f"python:ledger:{name}", **fields}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts each attempt in a runner of its own."""
    runners: list[Runner] = []

    def fresh(body: Json) -> Stream:
        runner = Runner(callables=CALLABLES, module=body["spec"].get("module")).__enter__()
        runners.append(runner)
        return runner.start(body)

    yield fresh
    for runner in runners:
        runner.__exit__(None, None, None)


def after(stream: Stream, **fields: Any) -> Json:
    """The request of the next attempt, from what is recorded."""
    body = stream.request
    history = stream.recorded()
    again = {"attempt": body["attempt"] + 1, "prompt": None, "message_history": history}
    return {**body, **again, **fields}


def approved(*call_ids: str) -> Json:
    """What Rust sends for calls that were approved as they are."""
    return {"approvals": {call_id: {"kind": "tool-approved"} for call_id in call_ids}}


def started(stream: Stream) -> list[str]:
    """The calls that were made."""
    return [event.data["tool_call_id"] for event in stream.all("tool_started")]


def contents(stream: Stream) -> Json:
    """What the model was told of each call."""
    return {
        part["tool_call_id"]: part["content"]
        for message in stream.recorded()
        if message["kind"] == "request"
        for part in message["parts"]
        if part["part_kind"] == "tool-return"
    }


def until_finished(stream: Stream, call_id: str) -> Event:
    """Reads up to the end of a call."""
    while (event := stream.until("tool_finished")).data["tool_call_id"] != call_id:
        pass
    return event


def test_pydantic_ai_reads_what_rust_sends() -> None:
    results = TypeAdapter(DeferredToolResults).validate_json(GOLDEN.read_text())
    decided = results.to_tool_call_results()

    assert {call_id: type(result).__name__ for call_id, result in decided.items()} == {
        "approved": "ToolApproved",
        "changed": "ToolApproved",
        "denied": "ToolDenied",
        "denied_why": "ToolDenied",
        "answered": "ToolReturn",
        "refused": "ToolFailed",
    }


def test_every_decision_reaches_its_call_in_another_process(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    pay = {"path": str(ledger), "amount": 1}
    changed = {**pay, "amount": 5}
    script = [
        calls(
            *(("pays", pay, call_id) for call_id in ("approved", "changed")),
            *(("pays", pay, call_id) for call_id in ("denied", "denied_why")),
            *(("elsewhere", {}, call_id) for call_id in ("answered", "refused")),
        ),
        text(),
    ]
    first = request(script, spec(tool("pays", requires_approval=True), tool("elsewhere")))
    before = start(first)
    paused = before.finish()
    kinds = {asked["tool_call_id"]: asked["kind"] for asked in paused.data["requests"]}
    assert paused.kind == "attempt_paused"
    assert set(kinds) == {"approved", "changed", "denied", "denied_why", "answered", "refused"}
    assert (kinds["approved"], kinds["answered"]) == ("approval", "external")

    results = json.loads(GOLDEN.read_text())
    results["approvals"]["changed"]["override_args"] = changed
    stream = start(after(before, deferred_tool_results=results))
    done = stream.finish()

    assert done.data["output"] == "Done."
    assert sorted(started(stream)) == ["approved", "changed"]
    assert sorted(ledger.read_text().split()) == ["1", "5"]
    assert contents(stream) == {
        "approved": "paid 1",
        "changed": "paid 5",
        "denied": "The tool call was denied.",
        "denied_why": "Not today.",
        "answered": {"kind": "tool-denied"},
        "refused": "Nobody is there.",
    }


def test_checkpoint_before_a_pause_has_what_asked(start: Start, tmp_path: Path) -> None:
    pay = {"path": str(tmp_path / "ledger"), "amount": 1}
    stream = start(request([call("pays", pay)], spec(tool("pays", requires_approval=True))))
    stream.finish()

    last, paused = stream.seen[-2:]
    assert (last.kind, last.data["before"], paused.kind) == ("checkpoint", "end", "attempt_paused")
    assert stream.recorded()[-1]["parts"][0]["tool_call_id"] == "c1"


@pytest.mark.parametrize(
    ("name", "result"), [("elsewhere", None), ("pays_if_approved", {"why": "money"})]
)
def test_call_that_only_asks_ends_as_deferred(start: Start, name: str, result: Any) -> None:
    stream = start(request([call(name, {})], spec(tool(name))))
    paused = stream.finish()

    assert paused.kind == "attempt_paused"
    assert stream.all("tool_started")[0].data["permit"] is True
    (finished,) = stream.all("tool_finished")
    assert (finished.data["outcome"], finished.data["result"]) == ("deferred", result)


def test_request_tells_the_schema_of_its_arguments(start: Start, tmp_path: Path) -> None:
    own = [{"name": "deposit", "target": "module", "effect": "once", "requires_approval": True}]
    asked = []
    for name, of in [
        ("pays", spec(tool("pays", requires_approval=True))),
        ("deposit", {"module": MODULE, "tools": own}),
    ]:
        args = {"path": str(tmp_path), "amount": 1} if name == "pays" else {"path": str(tmp_path)}
        asked += start(request([call(name, args)], of)).finish().data["requests"]

    assert [set(request["parameters"]["properties"]) for request in asked] == [
        {"path", "amount"},
        {"path"},
    ]


def test_arguments_that_a_tool_cannot_take_are_told_to_the_model(
    start: Start, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    script = [call("pays", {"path": str(ledger), "amount": 1}), text()]
    before = start(request(script, spec(tool("pays", requires_approval=True))))
    before.finish()
    results = approved("c1")
    results["approvals"]["c1"]["override_args"] = {"path": str(ledger), "amount": "much"}
    stream = start(after(before, deferred_tool_results=results))

    assert stream.finish().data["output"] == "Done."
    assert (started(stream), ledger.exists()) == ([], False)
    assert "valid integer" in json.dumps(stream.recorded())


def test_approved_call_is_recorded_before_it_is_made(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    pay = {"path": str(ledger), "amount": 1}
    script = [call("pays", pay), text()]
    before = start(request(script, spec(tool("pays", requires_approval=True))))
    before.finish()
    stream = start(after(before, deferred_tool_results=approved("c1")))
    intent = stream.until("tool_started")

    assert intent.data["permit"] is True
    assert (stream.silent(), ledger.exists()) == (True, False)
    stream.permit_if_asked(intent)
    assert stream.finish().kind == "attempt_completed"
    assert ledger.read_text() == "1\n"


def batch(ledger: Path) -> list[Json]:
    """Two calls, of which the second waits for an approval."""
    args = {"path": str(ledger)}
    return [calls(("deposit", args, "a"), ("pays", {**args, "amount": 1}, "b")), text()]


BATCH = spec(tool("deposit"), tool("pays", requires_approval=True))


def test_call_beside_one_that_waits_is_made_once_in_three_processes(
    start: Start, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    before = start(request(batch(ledger), BATCH))
    result = until_finished(before, "a").data["result"]
    # Its process goes before it could say that it pauses.
    before.hang_up()
    again = start(after(before, recorded={"a": result}))
    assert again.finish().kind == "attempt_paused"
    assert started(again) == []
    stream = start(after(again, recorded={}, deferred_tool_results=approved("b")))
    done = stream.finish()

    assert (done.kind, started(stream)) == ("attempt_completed", ["b"])
    assert ledger.read_text().split() == [result, "1"]
    assert contents(stream) == {"a": result, "b": "paid 1"}


def test_approved_call_that_finished_is_not_made_again(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    before = start(request(batch(ledger), BATCH))
    before.finish()
    lost = start(after(before, deferred_tool_results=approved("b")))
    result = until_finished(lost, "b").data["result"]
    lost.hang_up()
    stream = start(after(lost, recorded={"b": result}))
    done = stream.finish()

    assert (done.kind, started(stream)) == ("attempt_completed", [])
    assert len(ledger.read_text().split()) == 2
    assert contents(stream)["b"] == "paid 1"


@pytest.mark.parametrize("agent", ["data", "module"])
def test_result_that_a_person_gave_takes_the_place_of_a_call(
    start: Start, tmp_path: Path, agent: str
) -> None:
    ledger = tmp_path / "ledger"
    script = [call("deposit", {"path": str(ledger)}), text()]
    of = spec(tool("deposit")) if agent == "data" else {"module": MODULE}
    before = start(request(script, of))
    before.until("tool_started")
    before.hang_up()
    stream = start(after(before, recorded={"c1": {"seen": "on the statement"}}))
    done = stream.finish()

    assert (done.kind, started(stream), ledger.exists()) == ("attempt_completed", [], False)
    assert contents(stream) == {"c1": {"seen": "on the statement"}}


def test_tool_of_a_python_agent_pauses_where_the_spec_says_so(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    args = {"path": str(ledger)}
    own = [
        {"name": "deposit", "target": "module", "effect": "once", "requires_approval": True},
        {"name": "look_up", "target": "module", "effect": "pure"},
    ]
    script = [calls(("look_up", args, "a"), ("deposit", args, "b")), text()]
    first = request(script, {"module": MODULE, "tools": own})
    before = start(first)
    paused = before.finish()
    assert [asked["tool_call_id"] for asked in paused.data["requests"]] == ["b"]
    stated = before.all("tool_started")[0].data
    assert (stated["effect"], stated["permit"]) == ("pure", False)

    stream = start(after(before, deferred_tool_results=approved("b")))
    done = stream.finish()
    assert done.data["output"] == "Done."
    assert stream.all("tool_started")[0].data["permit"] is True
    assert ledger.read_text() == f"{first['run_id']}:1:b\n"
