"""The idempotency key of a call: one for each, whatever becomes of its run and its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axon_runner import CurrentCall, current_call
from harness import Json, Runner, Stream
from support import call, calls, request, rust, spec, text

DEPOSITS = ["deposit", "deposit_async", "deposit_for"]
CALLABLES: list[Json] = [
    {"target": "scripted:model", "role": "model"},
    *({"target": f"ledger:{name}", "role": "tool", "effect": "once"} for name in DEPOSITS),
]
ARGS: Json = {"include_pending": True}

Start = Callable[[Json], Stream]


def tool(name: str = "deposit", **fields: Any) -> Json:
    """A tool of the ledger."""
    return {"name": name, "target": f"python:ledger:{name}", **fields}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts each attempt in a runner of its own."""
    runners: list[Runner] = []

    def fresh(body: Json) -> Stream:
        runner = Runner(callables=CALLABLES).__enter__()
        runners.append(runner)
        return runner.start(body)

    yield fresh
    for runner in runners:
        runner.__exit__(None, None, None)


def lost(stream: Stream, call_id: str) -> Json:
    """Loses the attempt when it starts a call, and returns the request of the next one."""
    while stream.until("tool_started").data["tool_call_id"] != call_id:
        stream.permit_if_asked(stream.seen[-1])
    stream.hang_up()
    body = stream.request
    return {
        **body,
        "attempt": body["attempt"] + 1,
        "prompt": None,
        "message_history": stream.recorded(),
    }


def started(stream: Stream, call_id: str) -> Json:
    """What was said of the start of a call."""
    return next(e.data for e in stream.all("tool_started") if e.data["tool_call_id"] == call_id)


def test_key_names_run_step_and_call() -> None:
    # The kernel makes the same text: `a_key_names_run_step_and_call` holds it to this one.
    assert CurrentCall("r1", 3, "call_9:x", 1).idempotency_key == "r1:3:call_9:x"


def test_no_call_is_under_way_outside_of_tools() -> None:
    with pytest.raises(LookupError, match="no tool call is under way"):
        current_call()


@pytest.mark.parametrize("name", DEPOSITS)
def test_call_that_is_made_again_has_the_same_key(start: Start, tmp_path: Path, name: str) -> None:
    ledger = tmp_path / "ledger"
    first = request([call(name, {"path": str(ledger)}), text()], spec(tool(name)))
    before = start(first)
    again = lost(before, "c1")
    stream = start(again)
    stream.finish()

    key = f"{first['run_id']}:1:c1"
    assert ledger.read_text() == f"{key}\n"
    assert stream.all("tool_finished")[0].data["result"] == key
    assert started(stream, "c1")["step"] == started(before, "c1")["step"] == 1


def test_calls_of_one_batch_have_keys_of_their_own(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    args = {"path": str(ledger)}
    batch = calls(("deposit", args, "a"), ("deposit_async", args, "b"))
    body = request([batch, text()], spec(tool(), tool("deposit_async")))
    start(body).finish()

    run = body["run_id"]
    assert set(ledger.read_text().split()) == {f"{run}:1:a", f"{run}:1:b"}


def test_step_counts_the_history_in_front(start: Start, tmp_path: Path) -> None:
    turn = request([text("Hello.")], spec())
    earlier = start(turn)
    earlier.finish()
    history = earlier.recorded()
    script = [text(), call("deposit", {"path": str(tmp_path / "ledger")}), text()]
    body = request(script, spec(tool()), message_history=history)
    # The model of the tests answers the first script that it finds.
    history[0]["parts"][0]["content"] = "Hello?"
    before = start(body)
    stream = start(lost(before, "c1"))
    stream.finish()

    assert started(before, "c1")["step"] == started(stream, "c1")["step"] == 3
    assert stream.recorded()[3]["parts"][0]["tool_call_id"] == "c1"


def test_step_is_the_same_behind_an_approval(start: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    args = {"path": str(ledger)}
    script = [
        calls(("deposit", args, "a"), ("deposit_async", args, "b")),
        call("deposit", args, "c"),
        text(),
    ]
    agent = spec(tool(), tool("deposit_async", requires_approval=True))
    first = request(script, agent)
    before = start(first)
    assert before.finish().kind == "attempt_paused"
    approved = {
        **first,
        "attempt": 2,
        "prompt": None,
        "message_history": before.recorded(),
        "deferred_tool_results": {"approvals": {"b": {"kind": "tool-approved"}}},
    }
    second = start(approved)
    again = lost(second, "c")
    kinds = [message["kind"] for message in again["message_history"]]
    assert kinds == ["request", "response", "request", "request", "response"]
    third = start({**again, "deferred_tool_results": None})
    third.finish()

    assert started(second, "b")["step"] == 1
    assert started(second, "c")["step"] == started(third, "c")["step"] == 3
    run = first["run_id"]
    assert ledger.read_text().split() == [f"{run}:1:a", f"{run}:1:b", f"{run}:3:c"]


def test_step_is_the_same_behind_a_message_to_the_live_run(tmp_path: Path) -> None:
    args = {"path": str(tmp_path / "ledger")}
    script = [call("balance", ARGS, "a"), call("deposit", args, "b"), text()]
    with Runner(callables=CALLABLES) as one, Runner(callables=CALLABLES) as other:
        before = one.start(request(script, spec(tool(), rust())))
        asked = before.until("tool_request")
        one.steer(before, "hurry")
        before.answer(asked, content=1)
        again = lost(before, "b")
        kinds = [message["kind"] for message in again["message_history"]]
        assert kinds == ["request", "response", "request", "request", "response"]
        stream = other.start(again)
        stream.finish()

    assert started(before, "b")["step"] == started(stream, "b")["step"] == 3


def test_direct_call_has_a_key_of_its_own(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with Runner(callables=CALLABLES) as runner:
        for _ in range(2):
            runner.post("/v1/tools/ledger:deposit/call", {"args": {"path": str(ledger)}})

    assert len(set(ledger.read_text().split())) == 2
