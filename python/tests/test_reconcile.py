"""What became of a call: a tool's own function is asked, and gives one of three verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Answer, Json, Runner

FUNCTIONS = ["deposited", "deposited_for", "unreachable", "vague", "unsendable", "curt"]
CALLABLES: list[Json] = [
    {"target": "ledger:deposit", "role": "tool", "effect": "once"},
    *({"target": f"ledger:{name}", "role": "reconcile"} for name in FUNCTIONS),
]


@pytest.fixture(scope="module")
def ledger() -> Iterator[Runner]:
    """A runner with the functions of the ledger."""
    with Runner(callables=CALLABLES) as runner:
        assert runner.first["type"] == "ready", runner.first
        yield runner


def ask(runner: Runner, function: str, args: Json | None = None, **fields: Any) -> Answer:
    """Asks what became of call c1 of run r1."""
    body = {
        "key": "r1:1:c1",
        "run_id": "r1",
        "step": 1,
        "tool_call_id": "c1",
        "name": "deposit",
        "args": args or {},
        **fields,
    }
    return runner.post(f"/v1/tools/ledger:{function}/reconcile", body)


def test_call_that_took_effect_is_done_with_its_result(ledger: Runner, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text("r0:1:c1\nr1:1:c1\n")
    answer = ask(ledger, "deposited", {"path": str(path)})

    assert answer == Answer(200, {"outcome": "done", "result": {"key": "r1:1:c1"}})


def test_call_that_took_no_effect_is_not_done(ledger: Runner, tmp_path: Path) -> None:
    answer = ask(ledger, "deposited", {"path": str(tmp_path / "nothing")})

    assert answer == Answer(200, {"outcome": "not_done"})


def test_function_that_takes_deps_gets_those_of_the_run(ledger: Runner) -> None:
    assert ask(ledger, "deposited_for", deps={"name": "John"}).body == {
        "outcome": "done",
        "result": "John",
    }
    assert ask(ledger, "deposited_for").body == {"outcome": "unknown"}


def test_deps_are_made_by_the_factory_and_taken_down() -> None:
    factory = {"target": "deps:in_context", "role": "deps_factory"}
    function = {"target": "deps:knows", "role": "reconcile"}
    with Runner(callables=[factory, function]) as runner:
        body = {
            "key": "k",
            "run_id": "r1",
            "step": 1,
            "tool_call_id": "c1",
            "name": "deposit",
            "deps": {"customer_id": 7},
        }
        answer = runner.post("/v1/tools/deps:knows/reconcile", body)
        printed = runner.printed()

    assert answer.body == {"outcome": "done", "result": [7, "async context"]}
    assert "deps down" in printed


def test_deps_of_a_python_agent_are_of_its_type() -> None:
    function = {"target": "ledger:knows_its_deps", "role": "reconcile"}
    with Runner(callables=[function], module="helpdesk:agent") as runner:
        known = ask(runner, "knows_its_deps", deps={"name": "John"})
        wrong = ask(runner, "knows_its_deps", deps={"age": "old"})

    assert known.body == {"outcome": "done", "result": "Customer"}
    assert (wrong.status, wrong.error["kind"]) == (400, "config")


@pytest.mark.parametrize(
    ("function", "status", "kind", "fault"),
    [
        ("unreachable", 422, "tool", "the bank is closed"),
        ("vague", 400, "config", "returned a bool: return Done(result), NotDone(), or None"),
        ("unsendable", 422, "tool", "cannot be written as JSON"),
        ("curt", 400, "config", "has to take (key, args) or (key, args, deps)"),
        ("deposit", 404, "config", "not registered as a reconcile"),
    ],
)
def test_what_is_no_verdict_is_a_failure(
    ledger: Runner, function: str, status: int, kind: str, fault: str
) -> None:
    answer = ask(ledger, function)

    assert (answer.status, answer.error["kind"]) == (status, kind)
    assert fault in answer.error["message"]


def test_function_that_is_no_tool_cannot_be_called_as_one(ledger: Runner) -> None:
    assert ledger.post("/v1/tools/ledger:deposited/call", {"args": {}}).status == 404


def test_body_of_the_wrong_shape_is_refused(ledger: Runner) -> None:
    answer = ask(ledger, "deposited", step="1")

    assert (answer.status, answer.error["kind"]) == (400, "config")
