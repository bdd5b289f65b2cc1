"""An agent defined in Python, which knows nothing of Axon."""

import math
import os
import time
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.toolsets import FunctionToolset
from scripted import model


@dataclass
class Customer:
    """The deps of the agent."""

    name: str
    age: int = 30


class Advice(BaseModel):
    """The output of the agent."""

    advice: str
    risk: int


agent = Agent(
    model, output_type=Advice, deps_type=Customer, instructions="Be kind.", name="helpdesk"
)


@agent.tool
def who(ctx: RunContext[Customer]) -> str:
    """Says who the customer is."""
    return f"{ctx.deps.name} is {ctx.deps.age}"


@agent.tool_plain
def sleeps(path: str) -> str:
    """Sleeps in a thread until the file is there, and says so in another one."""
    with open(f"{path}.begun", "w"):
        pass
    while not os.path.exists(path):
        time.sleep(0.01)
    return "awake"


@agent.tool_plain
def breaks() -> str:
    """Raises."""
    raise RuntimeError("database is gone")


def rate(advice: str, risk: float) -> dict[str, Any]:
    """Makes an output that JSON cannot carry."""
    return {"advice": advice, "risks": [risk, math.inf]}


with_output_function = Agent(model, output_type=rate)


class Handle:
    """A type that no JSON stands for."""


with_handle = Agent(model, deps_type=Handle)
no_model = Agent(deps_type=Handle)


class Unreachable(FunctionToolset[Any]):
    """A toolset whose server is down."""

    async def __aenter__(self) -> Self:
        raise RuntimeError("Client failed to connect")


with_toolset = Agent(model, toolsets=[Unreachable([])])
