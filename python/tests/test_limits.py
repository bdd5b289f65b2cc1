"""Events that are too large, and environments that lack something."""

from __future__ import annotations

import ast
import signal
import sys
from pathlib import Path

import pytest

from harness import DEADLINE, SOURCES, Runner
from support import CALLABLES, call, request, rust, spec, structured, text

CHEAP = [
    "__init__",
    "process",
    "lifeline",
    "control",
    "failed",
    "preflight",
    "redaction",
    "call",
    "verdict",
]


def test_event_over_the_limit_fails_the_attempt_as_usage_limit() -> None:
    with Runner(callables=CALLABLES, limits={"event_bytes": 20_000}) as runner:
        done = runner.start(request([text("x" * 30_000)], spec())).finish()

        assert done.kind == "attempt_failed"
        assert done.data["error"]["kind"] == "usage_limit"
        assert done.data["new_messages"] == []
        assert done.data["new_messages_omitted"] is True


def test_terminal_leaves_messages_to_the_checkpoints_when_they_do_not_fit() -> None:
    with Runner(callables=CALLABLES, limits={"event_bytes": 20_000}) as runner:
        script = [call("balance", {"include_pending": True}, f"c{i}") for i in range(4)]
        stream = runner.start(request([*script, text()], spec(rust()), stream=False))
        done = stream.finish(lambda event: {"content": "x" * 8_000})

        assert done.kind == "attempt_completed"
        assert done.data["new_messages_omitted"] is True
        assert len(stream.recorded()) == 10


def test_json_depth_is_the_launch_records() -> None:
    with Runner(callables=CALLABLES, limits={"json_depth": 8}) as runner:
        answer = runner.post("/v1/agents/validate", b"[" * 9 + b"]" * 9)

        assert (answer.status, answer.error["kind"]) == (400, "decode")
        assert "8 levels" in answer.error["message"]


def test_missing_jsonschema_is_told_with_the_remedy_only_when_it_is_needed(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        f"import sys\nsys.modules['jsonschema_rs'] = None\nsys.path.insert(0, {str(SOURCES)!r})\n"
        "import axon_runner\naxon_runner.main()\n"
    )
    with Runner([sys.executable, "-I", str(launcher)], callables=CALLABLES) as runner:
        refusal = runner.start(request([text()], structured())).refusal()

        assert runner.start(request([text()], spec())).finish().kind == "attempt_completed"
        assert (refusal.status, refusal.error["kind"]) == (400, "config")
        assert f"{sys.executable} -m pip install jsonschema-rs" in refusal.error["message"]


@pytest.mark.parametrize("name", CHEAP)
def test_what_runs_before_the_version_check_parses_on_old_pythons(name: str) -> None:
    source = (SOURCES / "axon_runner" / f"{name}.py").read_text()

    ast.parse(source, feature_version=(3, 8))


def test_stack_is_dumped_on_request_and_on_abort() -> None:
    with Runner(callables=CALLABLES) as runner:
        runner.process.send_signal(signal.SIGUSR1)
        assert runner.get("/healthz").status == 200
        assert "most recent call first" in runner.printed()
        runner.process.send_signal(signal.SIGABRT)
        assert runner.process.wait(DEADLINE) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in runner.printed()
