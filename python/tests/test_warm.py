"""What a parent that has warmed up leaves to the runners that are forked from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import DEADLINE, SOURCES

_BEFORE = f"""
import asyncio, gc, os, sys, time
sys.path.insert(0, {str(SOURCES)!r})

def files():
    found = {{}}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            pass
    return found

files_before, environment = files(), dict(os.environ)
from axon_runner import warm
"""

_LEFT_AS_IT_WAS = """
assert len(os.listdir("/proc/self/task")) == 1, "one thread"
assert files() == files_before, "no open files"
assert dict(os.environ) == environment, "the same environment"
assert gc.get_freeze_count() > 100_000, "what was imported is no garbage"
try:
    asyncio.get_running_loop()
except RuntimeError:
    pass
else:
    raise AssertionError("no event loop")
"""

_FORKED = """
def forked(run):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            began = time.perf_counter()
            run()
            print(f"{time.perf_counter() - began:.4f}", flush=True)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(*pieces: str) -> str:
    """Runs a script in a process of its own and returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", "\n".join((_BEFORE, *pieces))],
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,  # a provider's SDK alone takes seconds to import
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


@pytest.mark.parametrize("provider", ["openai-chat", "openai", "anthropic", "google", "nobody"])
def test_warming_a_provider_leaves_nothing_but_memory(provider: str) -> None:
    run(f'warm.warm(["{provider}"])', _LEFT_AS_IT_WAS)


def test_what_is_warm_is_not_warmed_again() -> None:
    run(
        'warm.warm(["openai-chat"])',
        "def rehearse(model): raise AssertionError",
        "warm.rehearse = rehearse",
        'warm.warm(["openai-chat"])',
        _LEFT_AS_IT_WAS,
    )


def test_more_providers_can_be_warmed_later() -> None:
    run(
        "warm.warm([])",
        'assert "openai" not in sys.modules',
        'warm.warm(["openai-chat"])',
        'assert "openai" in sys.modules',
        'assert set(warm.patches.found().values()) == {"on"}',
        _LEFT_AS_IT_WAS,
    )


@pytest.mark.parametrize(
    ("error", "traceback"), [("ImportError", False), ("ValueError", True), ("SystemExit", True)]
)
def test_provider_that_cannot_be_warmed_is_told_and_harms_nobody(
    error: str, traceback: bool
) -> None:
    run(
        f"def broken(*_, **__): raise {error}('gone')",
        "warm.infer_provider_class = lambda name: broken",
        "warm.infer_model = broken",
        "told = []",
        "warm._log.warning = lambda *args, **kwargs: told.append((args[1], kwargs['exc_info']))",
        'failed = warm.warm(["openai-chat", "anthropic"])',
        'assert list(failed) == ["openai-chat", "anthropic"], failed',
        f'assert failed["anthropic"] == "anthropic could not be warmed: {error}: gone", failed',
        f"assert told == [(reason, {traceback}) for reason in failed.values()], told",
        _LEFT_AS_IT_WAS,
    )


def test_forked_child_runs_an_agent_at_once_on_its_own_event_loop() -> None:
    printed = run(
        'warm.warm(["openai-chat"])',
        _FORKED,
        """
def serve():
    from axon_runner import event_loop, warm_replies
    from axon_runner.rehearsal import ARGUMENTS, OUTPUT, TOOL
    from pydantic_ai.models import create_async_httpx2_client
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    import axon_runner.rehearsal
    asyncio.new_event_loop = event_loop.new_event_loop
    client = create_async_httpx2_client(
        transport=warm_replies.transport(TOOL, ARGUMENTS, OUTPUT)
    )
    provider = OpenAIProvider("http://warm/v1", "key", http_client=client)
    axon_runner.rehearsal.rehearse(OpenAIChatModel("warm", provider=provider))

forked(serve)
forked(serve)
""",
        _LEFT_AS_IT_WAS,
    )
    assert len(printed.split()) == 2
