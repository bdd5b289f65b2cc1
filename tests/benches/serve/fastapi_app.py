"""The bank-support agent behind FastAPI, which the bench `serve` compares Axon with.

`AXON_BENCH_FOLDER` is the folder of `bank.py`, `AXON_MODEL` the model.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_ai.models import infer_model

sys.path.append(os.environ["AXON_BENCH_FOLDER"])

from bank import LIMITS, bank_support
from bank_support.deps import SupportRequest, make

TIMEOUT_SECONDS = 60.0

agent = bank_support()
model = infer_model(os.environ["AXON_MODEL"])
app = FastAPI()


class Deps(BaseModel):
    """Who asks."""

    customer_id: int


class Question(BaseModel):
    """What a run is asked with."""

    prompt: str
    deps: Deps


@app.post("/v1/agents/bank_support/runs")
async def ask(question: Question) -> dict[str, Any]:
    """Asks the agent."""
    async with make(SupportRequest(customer_id=question.deps.customer_id)) as deps:
        result = await agent.run(
            question.prompt,
            deps=deps,
            model=model,
            usage_limits=LIMITS,
            timeout=TIMEOUT_SECONDS,
            infer_name=False,
        )
    return {"outcome": "completed", "output": result.output}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    """Tells that it answers."""
    return {"state": "ready"}
