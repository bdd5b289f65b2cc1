"""The bank-support agent on pydantic-ai alone, which the bench `bank_support` compares Axon with.

It does what `agents/bank_support/agent.toml` asks for, in one process. It reads one round's job per
line from standard input, answers with one line of what it measured, and ends with its input:

    python -I bare.py REPOSITORY [--tuned]

`--tuned` gives it the garbage-collection settings that Axon's runner gives itself.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models import Model, infer_model

sys.path.append(str(Path(sys.argv[1]) / "tests" / "benches"))

from bank import LIMITS, bank_support
from bank_support.deps import SupportRequest, make

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """One round, as the bench asks for it."""

    runs: int
    concurrency: int
    model: str
    stream: bool
    prompt: str
    request: SupportRequest
    expected: str


@dataclass
class Sample:
    """What one round took; times in seconds."""

    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    events: int = 0
    cpu: float = 0.0
    wall: float = 0.0


class Bank:
    """The agent, with every model that it was asked to use."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._agent = bank_support()

    async def run(self, job: Job, sample: Sample) -> None:
        """Makes one run and adds what it took to `sample`."""
        began = perf_counter()
        async with make(job.request) as deps:
            given: dict[str, Any] = {
                "deps": deps,
                "model": self._model(job.model),
                "usage_limits": LIMITS,
                "timeout": TIMEOUT_SECONDS,
                "infer_name": False,
            }
            if job.stream:
                output = await self._stream(job, given, began, sample)
            else:
                output = (await self._agent.run(job.prompt, **given)).output
        sample.latencies.append(perf_counter() - began)
        if job.expected not in output["support_advice"]:
            raise ValueError(f"the wrong answer: {output}")

    async def _stream(
        self, job: Job, given: dict[str, Any], began: float, sample: Sample
    ) -> dict[str, Any]:
        first: float | None = None
        last, pause = began, 0.0
        async with self._agent.iter(job.prompt, **given) as run:
            async for node in run:
                if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                    events: Any
                    async with node.stream(run.ctx) as events:
                        async for _event in events:
                            now = perf_counter()
                            if first is None:
                                first = now - began
                            else:
                                pause = max(pause, now - last)
                            last = now
                            sample.events += 1
        if run.result is None or first is None:
            raise ValueError("a streamed run ends with a result, after events")
        sample.firsts.append(first)
        sample.pauses.append(pause)
        output: dict[str, Any] = run.result.output
        return output

    def _model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = infer_model(name)
        return self._models[name]


async def measure(bank: Bank, job: Job) -> Sample:
    """Makes the runs of `job`, that many at a time."""
    sample = Sample()
    pending = iter(range(job.runs))

    async def work() -> None:
        for _ in pending:
            await bank.run(job, sample)

    cpu, wall = _cpu(), perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(work())
    sample.cpu, sample.wall = _cpu() - cpu, perf_counter() - wall
    return sample


async def jobs() -> AsyncIterator[Job]:
    """Yields jobs as they come; ends the process in the middle of a round if its input ends."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        lines.put_nowait(line)

    loop.add_reader(sys.stdin.fileno(), read)
    while True:
        yield Job(**json.loads(await lines.get()))


async def main() -> None:
    """Answers every job."""
    bank = Bank()
    tuned = "--tuned" in sys.argv
    if tuned:
        gc.set_threshold(20_000, 50, 100)
    async for job in jobs():
        sample = await measure(bank, job)
        sys.stdout.write(json.dumps(vars(sample)) + "\n")
        sys.stdout.flush()
        if tuned:
            tuned = False
            gc.collect()
            gc.freeze()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


asyncio.run(main())
