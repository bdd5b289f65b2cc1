"""From the launch record to ready, or to the reason why not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness import AGENTS, DEADLINE, SOURCES, TOKEN, Json, Runner
from support import CALLABLES, call, python, request, spec, text


def failure(**launch: Any) -> Json:
    """The error of a runner that cannot start; it exits with code 1."""
    with Runner(**launch) as runner:
        assert runner.first["type"] == "failed", runner.first
        assert runner.process.wait(DEADLINE) == 1
        error: Json = runner.first["error"]
        assert error["kind"] == "config"
        return error


def test_ready_names_protocol_generation_and_versions() -> None:
    with Runner(generation=12) as runner:
        first = runner.first
        assert first.pop("pid") == runner.process.pid
        versions = first.pop("versions")
        assert versions.keys() > {"python", "pydantic_ai", "axon_runner"}
        assert versions["event_loop"].startswith("uvloop ")
        assert versions["transport"].startswith("aiohttp ")
        assert versions["patch stream_locks"] == "on"
        assert first == {"type": "ready", "protocol": 1, "generation": 12}
        health = runner.get("/healthz").body
        assert {
            "ok": True,
            "attempts": 0,
            "protocol": 1,
            "generation": 12,
        }.items() <= health.items()


def test_runner_also_starts_as_a_module_of_an_install(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(SOURCES)!r})\n"
        "runpy.run_module('axon_runner', run_name='__main__')\n"
    )
    with Runner([sys.executable, "-I", str(launcher)]) as runner:
        assert runner.first["type"] == "ready"


def test_secrets_come_into_the_environment_and_not_into_proc() -> None:
    with Runner(callables=CALLABLES, env={"BANK_KEY": "s3cret-bank-key"}) as runner:
        pid = runner.process.pid
        for place in ("environ", "cmdline"):
            shown = Path(f"/proc/{pid}/{place}").read_bytes()
            assert b"s3cret-bank-key" not in shown
            assert TOKEN.encode() not in shown
        answer = runner.post("/v1/tools/tools:leaks/call", {})
        assert answer.error["message"] == "cannot log in with [redacted]"
        record = runner.record()
        assert record == {
            "type": "log",
            "level": "warn",
            "logger": "bank.tools",
            "message": "key is [redacted]",
            "fields": {},
        }


@pytest.mark.parametrize(
    ("target", "raised", "fault"),
    [
        ("broken_import:tool", "ValueError", "this module is broken"),
        ("no_such_module:tool", "ModuleNotFoundError", "no_such_module"),
        ("tools:no_such_tool", "ConfigError", "has no 'no_such_tool'"),
    ],
)
def test_callable_that_cannot_be_imported_is_reported(target: str, raised: str, fault: str) -> None:
    error = failure(callables=[{"target": target, "role": "tool"}])

    assert error["class"] == raised
    assert fault in error["message"]
    assert "Traceback" in error["traceback"]


@pytest.mark.parametrize("target", ["tools", "tools:a.b", "../x:y", "tools:__import__('os')", ":f"])
def test_target_outside_the_grammar_is_refused(target: str) -> None:
    error = failure(callables=[{"target": target, "role": "tool"}])

    assert "callables.0.target" in error["message"]


def test_package_with_the_name_of_an_installed_module_is_refused() -> None:
    error = failure(package="json")

    assert "'json'" in error["message"]
    assert str(AGENTS) in error["message"]
    assert "/json" in error["message"].replace(str(AGENTS), "")


def test_other_protocol_is_refused() -> None:
    assert "protocol" in failure(protocol=2)["message"]


def test_error_of_a_start_shows_no_secret() -> None:
    error = failure(
        env={"KEY": "no_such_module"}, callables=[{"target": "no_such_module:f", "role": "tool"}]
    )

    assert error["message"] == "No module named '[redacted]'"
    assert "no_such_module" not in error["traceback"]


def test_module_must_be_an_agent() -> None:
    assert "not a pydantic_ai.Agent" in failure(module="tools:balance")["message"]


def test_lifespan_is_entered_before_ready_and_left_at_the_end() -> None:
    lifespan = {"target": "deps:lifespan", "role": "lifespan"}
    with Runner(callables=[lifespan]) as runner:
        assert runner.first["type"] == "ready"
        assert runner.printed() == "lifespan up\n"
        runner.process.terminate()
        assert runner.process.wait(DEADLINE) == 0
        assert runner.printed() == "lifespan up\nlifespan down\n"


def test_lifespan_that_is_none_is_refused() -> None:
    error = failure(callables=[{"target": "deps:no_lifespan", "role": "lifespan"}])

    assert "deps:no_lifespan" in error["message"]


def test_print_at_import_goes_to_stdout_and_records_to_the_control_socket() -> None:
    with Runner(callables=[{"target": "prints_at_import:tool", "role": "tool"}]) as runner:
        records = [runner.first, runner.record(), runner.record()]
        by_type = {record["type"] for record in records}
        logs = {r["logger"]: r for r in records if r["type"] == "log"}

        assert by_type == {"log", "ready"}
        assert logs["at.import"]["message"] == "careful, world"
        assert "an old habit" in logs["py.warnings"]["message"]
        assert runner.printed() == "hello from the import\n"


def test_no_warning_of_pydantic_ai_is_caused_by_the_runner_itself() -> None:
    with Runner(callables=CALLABLES) as runner:
        script = [call("balance", {"include_pending": True}), text()]
        stream = runner.start(request(script, spec(python("balance"))))
        stream.finish()
        assert stream.all("log") == []
        runner.process.terminate()
        runner.process.wait(DEADLINE)
        with pytest.raises(EOFError):
            runner.record()


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        ("2.59.0", "pydantic-ai 2.59.0 is outside the tested range >=2.60,<3"),
        (None, "not installed"),
    ],
)
def test_environment_outside_the_tested_range_is_refused_with_the_remedy(
    tmp_path: Path, version: str | None, fault: str
) -> None:
    lookup = f"return {version!r}" if version else "raise metadata.PackageNotFoundError(name)"
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "import sys\nfrom importlib import metadata\n"
        f"def version(name):\n    {lookup}\n"
        f"metadata.version = version\nsys.path.insert(0, {str(SOURCES)!r})\n"
        "import axon_runner\naxon_runner.main()\n"
    )
    with Runner([sys.executable, "-I", str(launcher)]) as runner:
        message = runner.first["error"]["message"]

        assert fault in message
        assert f"{sys.executable} -m pip install 'pydantic-ai-slim[openai]==2.68.0'" in message
        assert runner.process.wait(DEADLINE) == 1
