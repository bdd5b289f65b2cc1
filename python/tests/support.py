"""Requests that the tests build on."""

from __future__ import annotations

import itertools
import json
from typing import Any

from harness import Json

OUTPUT: Json = {
    "type": "object",
    "properties": {
        "advice": {"type": "string"},
        "risk": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["advice", "risk"],
    "additionalProperties": False,
}
GOOD: Json = {"advice": "Call us.", "risk": 3}
BAD: Json = {"advice": "Call us.", "risk": 11}

PENDING: Json = {
    "type": "object",
    "properties": {"include_pending": {"type": "boolean"}},
    "required": ["include_pending"],
    "additionalProperties": False,
}

PURE = (
    "balance boom leave hang hang_in_thread hang_in_executor asks chatty not_a_number"
    " unserialisable deep once_wrong fails leaks picture describes_deps typed defers surrogate"
    " spawns holds_the_gil wrong_deep_inside retries_with_a_surrogate asks_with_an_object halves"
    " anything interrupted grouped exits_in_a_task exits_in_a_callback rude floods"
    " floods_from_a_thread closes_stdout closes_the_control_socket sleeps sleeps_in_executor"
    " leaves_a_thread stops_iterating clings"
).split()

CALLABLES: list[Json] = [
    *({"target": f"tools:{name}", "role": "tool", "effect": "pure"} for name in PURE),
    {"target": "tools:count", "role": "tool", "effect": "once"},
    {"target": "tools:once_unserialisable", "role": "tool", "effect": "once"},
    {"target": "tools:not_a_function", "role": "tool"},
    *(
        {"target": f"deps:{name}", "role": "deps_factory"}
        for name in (
            "plain",
            "coroutine",
            "in_context",
            "sync_context",
            "nothing",
            "broken",
            "waits",
        )
    ),
    *(
        {"target": f"deps:{name}", "role": "deps_factory"}
        for name in ("cannot_close", "exits", "exits_at_the_end", "exits_in_validation")
    ),
    *(
        {"target": f"scripted:{name}", "role": "model"}
        for name in ("model", "made", "named", "wrong", "exits")
    ),
    {"target": "scripted:exits", "role": "instructions"},
    {"target": "scripted:waits", "role": "instructions"},
]

_numbers = itertools.count(1)


def calls(*each: tuple[str, Any, str]) -> Json:
    """A reply that calls tools: name, arguments, call id."""
    return {"calls": [list(call) for call in each]}


def call(name: str, args: Any = None, call_id: str = "c1") -> Json:
    """A reply that calls one tool."""
    return calls((name, {} if args is None else args, call_id))


def answer(value: Any, call_id: str = "out") -> Json:
    """A reply that calls the output tool."""
    return calls(("$output", value, call_id))


def text(value: str = "Done.") -> Json:
    """A reply of text."""
    return {"text": value}


def python(name: str, **fields: Any) -> Json:
    """A Python tool of the spec."""
    return {"name": name, "target": f"python:tools:{name}", **fields}


def rust(name: str = "balance", **fields: Any) -> Json:
    """A Rust tool of the spec."""
    return {"name": name, "target": "rust", "parameters": PENDING, **fields}


def spec(*tools: Json, **fields: Any) -> Json:
    """An agent with the scripted model."""
    return {"model": "python:scripted:model", "tools": list(tools), **fields}


def structured(*tools: Json, mode: str = "auto", **fields: Any) -> Json:
    """An agent with structured output."""
    return spec(*tools, output={"mode": mode, "schema": OUTPUT, **fields})


def request(script: list[Json] | None, agent: Json, **fields: Any) -> Json:
    """A request of a run of its own; without a script it resumes."""
    return {
        "run_id": f"run-{next(_numbers)}",
        "attempt": 1,
        "prompt": None if script is None else json.dumps(script),
        "spec": agent,
        "timeout": 20,
        **fields,
    }
