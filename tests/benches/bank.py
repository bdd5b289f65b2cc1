"""The bank-support agent as its `agent.toml` says it, on pydantic-ai alone: for benches."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, StructuredDict, Tool, UsageLimits

AGENTS = Path(__file__).resolve().parents[2] / "agents"
sys.path.append(str(AGENTS))

from bank_support import prompts, tools  # noqa: E402 - found on the path that was just set
from bank_support.deps import SupportDeps  # noqa: E402

FOLDER = AGENTS / "bank_support"
SPEC: dict[str, Any] = tomllib.loads((FOLDER / "agent.toml").read_text("utf-8"))
LIMITS = UsageLimits(
    request_limit=SPEC["limits"]["requests"], total_tokens_limit=SPEC["limits"]["total_tokens"]
)


def bank_support() -> Agent[SupportDeps, dict[str, Any]]:
    """Makes the agent. It is given a model with each run."""
    settings: Any = {**SPEC["model_settings"], "max_retries": 0}
    return Agent(
        name="bank_support",
        description=SPEC["description"],
        deps_type=SupportDeps,
        output_type=StructuredDict(json.loads((FOLDER / "output.schema.json").read_text())),
        instructions=[SPEC["instructions"], prompts.customer_name],
        model_settings=settings,
        tools=[Tool(tools.customer_balance, timeout=5.0)],
        retries=SPEC["retries"],
        end_strategy=SPEC["end_strategy"],
    )
