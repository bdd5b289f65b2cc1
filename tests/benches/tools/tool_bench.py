"""The model and the tool that the bench `tools` measures with, and pydantic-ai alone beside Axon.

As a module, it is what the agents in Axon name. As a program, it makes the same runs on pydantic-ai
alone: it reads one job per line from standard input, answers each with one line of what it took,
and ends with its input.
"""

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from time import perf_counter

from pydantic_ai import Agent, Tool, UsageLimits
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

LIMITS = UsageLimits(request_limit=200)


async def double(number: int) -> int:
    """Doubles a number."""
    return 2 * number


async def _respond(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Calls the tool as often as the prompt says, one call after the other, and then says so."""
    parts = [
        part for message in messages if isinstance(message, ModelRequest) for part in message.parts
    ]
    asked = next(int(str(part.content)) for part in parts if isinstance(part, UserPromptPart))
    called = sum(isinstance(part, ToolReturnPart) for part in parts)
    if called < asked:
        call = ToolCallPart("double", {"number": called}, tool_call_id=f"call_{called}")
        return ModelResponse(parts=[call])
    return ModelResponse(parts=[TextPart(f"{called} calls")])


model = FunctionModel(_respond, model_name="tools")


async def _lines() -> AsyncIterator[str]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def main() -> None:
    """Answers every job."""
    agent = Agent(model, tools=[Tool(double)])
    async for line in _lines():
        job = json.loads(line)
        cpu, latencies = _cpu(), []
        for _ in range(job["runs"]):
            began = perf_counter()
            result = await agent.run(str(job["calls"]), usage_limits=LIMITS, infer_name=False)
            latencies.append(perf_counter() - began)
            if result.output != f"{job['calls']} calls":
                raise ValueError(f"the wrong answer: {result.output}")
        sys.stdout.write(json.dumps({"latencies": latencies, "cpu": _cpu() - cpu}) + "\n")
        sys.stdout.flush()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(main())
