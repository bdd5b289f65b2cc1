"""Python tools that ask a Rust tool of the same run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness import DEADLINE, Event, Json, Runner
from support import call, request, rust, spec, text

NAMES = (
    "total waits own_loop at_once stops_the_loop forgives asks_for asks_with_nan leaves_it"
    " what_was_left"
).split()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    callables = [
        {"target": f"asking:{name}", "role": "tool", "effect": "pure"} for name in NAMES
    ] + [{"target": "scripted:model", "role": "model"}]
    with Runner(callables=callables) as launched:
        yield launched


def agent(*rust_tools: Json) -> Json:
    asking = ({"name": name, "target": f"python:asking:{name}"} for name in NAMES)
    return spec(*(rust_tools or (rust(timeout=5),)), *asking)


def returned(runner: Runner, name: str, args: Any = None, **answer: Any) -> Any:
    """What the tool `name` returns, where Rust answers all that is asked with `answer`."""
    stream = runner.start(request([call(name, args), text()], agent()))
    done = stream.finish(lambda event: answer)
    assert done.kind == "attempt_completed", done
    return stream.all("tool_finished")[0].data["result"]


def test_a_tool_asks_rust_under_ids_that_follow_from_its_own(runner: Runner) -> None:
    stream = runner.start(request([call("total"), text()], agent()))
    answers = iter(["$5", "$3"])
    stream.finish(lambda event: {"content": next(answers)})

    first, second = (event.data for event in stream.all("tool_request"))
    assert first == {
        "tool_call_id": "c1/1",
        "step": 1,
        "name": "balance",
        "args": {"include_pending": True},
        "retry": 0,
        "max_retries": 1,
        "approved": False,
        "timeout": 5,
    }
    assert (second["tool_call_id"], second["args"]) == ("c1/2", {"include_pending": False})
    assert stream.all("tool_finished")[0].data["result"] == "$5 and $3"
    assert [e.data["name"] for e in stream.all("tool_started")] == ["total"]


@pytest.mark.parametrize("name", ["waits", "own_loop"])
def test_a_sync_tool_asks_from_its_thread(runner: Runner, name: str) -> None:
    assert returned(runner, name, content="$5") == "got $5"


def test_what_is_asked_at_once_is_answered_in_any_order(runner: Runner) -> None:
    stream = runner.start(request([call("at_once"), text()], agent()))
    first, second = stream.until("tool_request"), stream.until("tool_request")
    assert [first.data["tool_call_id"], second.data["tool_call_id"]] == ["c1/1", "c1/2"]
    assert stream.answer(second, content="second").status == 204
    assert stream.answer(first, content="first").status == 204
    stream.finish()

    assert stream.all("tool_finished")[0].data["result"] == ["first", "second"]


@pytest.mark.parametrize(
    ("status", "outcome"), [("retry", "retry"), ("failed", "failed"), ("ok", "ok")]
)
def test_what_rust_decides_is_the_outcome_of_the_tool_that_asked(
    runner: Runner, status: str, outcome: str
) -> None:
    stream = runner.start(request([call("waits"), text()], agent()))
    stream.finish(lambda event: {"status": status, "message": "No.", "content": "$5"})

    assert stream.all("tool_finished")[0].data["outcome"] == outcome


@pytest.mark.parametrize("status", ["retry", "failed"])
def test_a_tool_can_go_on_without_the_one_it_asked(runner: Runner, status: str) -> None:
    told = returned(runner, "forgives", status=status, message="No.")
    assert told == "without: No."


def test_a_broken_rust_tool_ends_the_attempt_under_its_own_name(runner: Runner) -> None:
    error = {"status": "error", "kind": "StoreError", "message": "disk full", "retryable": True}
    done = runner.start(request([call("total"), text()], agent())).finish(lambda event: error)

    told = done.data["error"]
    assert (told["kind"], told["class"], told["message"]) == ("tool", "StoreError", "disk full")
    assert told["tool"] == {"tool_call_id": "c1/1", "name": "balance"}


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("no_such_tool", {}, "has no Rust tool 'no_such_tool'; it has: balance"),
        ("os:system", {}, "has no Rust tool 'os:system'"),
        ("total", {}, "has no Rust tool 'total'"),
        ("balance", {"include_pending": "yes"}, "do not fit balance: include_pending"),
        ("balance", {}, "do not fit balance"),
        ("balance", {"include_pending": [[[[0]]] * 3]}, "do not fit balance"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_sent(
    runner: Runner, name: str, args: Json, why: str
) -> None:
    asked = call("asks_for", {"name": name, "args": args})
    stream = runner.start(request([asked, text()], agent()))
    stream.finish()

    assert why in stream.all("tool_finished")[0].data["result"]
    assert not stream.all("tool_request")


def test_a_tool_that_a_person_has_to_approve_is_not_asked(runner: Runner) -> None:
    asked = call("asks_for", {"name": "balance", "args": {"include_pending": True}})
    stream = runner.start(request([asked, text()], agent(rust(requires_approval=True))))
    stream.finish()

    assert "a person has to approve" in stream.all("tool_finished")[0].data["result"]
    assert not stream.all("tool_request")


def test_who_approved_a_tool_has_not_approved_what_it_asks(runner: Runner) -> None:
    own = {"name": "asks_for", "target": "python:asking:asks_for", "requires_approval": True}
    agent = spec(rust(timeout=5), own)
    asked = call("asks_for", {"name": "balance", "args": {"include_pending": True}})
    paused = runner.start(request([asked, text()], agent)).finish()
    assert paused.kind == "attempt_paused"

    approved = request(
        None,
        agent,
        message_history=paused.data["new_messages"],
        deferred_tool_results={"approvals": {"c1": True}},
    )
    stream = runner.start(approved)
    metadata = {"reason": "it is a gold card"}
    done = stream.finish(lambda _: {"status": "needs_approval", "metadata": metadata})
    assert stream.all("tool_request")[0].data["approved"] is False
    assert "a person has to approve" in stream.all("tool_finished")[0].data["result"]
    assert done.kind == "attempt_completed"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("asks_with_nan", "RustToolRefused"), ("stops_the_loop", "RuntimeError")],
)
def test_a_mistake_in_the_tool_is_its_own(runner: Runner, name: str, kind: str) -> None:
    done = runner.start(request([call(name), text()], agent())).finish()

    assert (done.data["error"]["kind"], done.data["error"]["class"]) == ("tool", kind)


def test_who_is_left_behind_by_a_tool_cannot_ask_any_more(runner: Runner) -> None:
    script = [call("leaves_it", call_id="a"), call("what_was_left", call_id="b"), text()]
    stream = runner.start(request(script, agent()))
    stream.finish()

    assert "the tool call that asks is over" in stream.all("tool_finished")[1].data["result"]
    assert not stream.all("tool_request")


def test_a_thread_that_waits_for_rust_is_released_by_a_cancel(runner: Runner) -> None:
    stream = runner.start(request([call("waits"), text()], agent()))
    stream.until("tool_request")
    assert runner.delete(stream).status == 202
    assert stream.finish().kind == "attempt_cancelled"
    assert [e.data for e in stream.all("tool_request_cancelled")] == [{"tool_call_id": "c1/1"}]
    until = time.monotonic() + DEADLINE
    while left := runner.get("/healthz").body["unfinished"]:
        assert time.monotonic() < until, left


def test_a_direct_call_has_no_run_to_ask_in(runner: Runner) -> None:
    answer = runner.post("/v1/tools/asking:total/call", {})

    assert (answer.status, answer.error["class"]) == (422, "RustToolRefused")
    assert "no tool call of a run is under way" in answer.error["message"]


def test_an_answer_of_another_run_is_refused(runner: Runner) -> None:
    one = runner.start(request([call("total"), text()], agent()))
    asked = one.until("tool_request")
    other = runner.start(request([call("total", call_id="c2"), text()], agent()))
    other.until("tool_request")
    foreign = Event("tool_request", 0, asked.data)

    assert other.answer(foreign, content="not mine").status == 404
    assert one.answer(asked, content="mine").status == 204
