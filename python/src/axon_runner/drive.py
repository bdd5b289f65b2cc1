"""Drives one attempt from its first event to its terminal."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_ai.agent import CallToolsNode, ModelRequestNode
from pydantic_ai.exceptions import ModelRetry, RunCancelled, RunTimedOut, UnexpectedModelBehavior
from pydantic_ai.exceptions import ToolRetryError as RetryError
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.run import AgentRun
from pydantic_ai.tools import DeferredToolRequests
from pydantic_core import PydanticSerializationError
from pydantic_graph import End

from axon_runner import failures, model_requests
from axon_runner.agents import Plan
from axon_runner.attempt import Attempt, current_attempt
from axon_runner.encode import (
    EncodeError,
    EventTooLarge,
    ModelUnsendable,
    OutputUnsendable,
    checked,
    encode,
)
from axon_runner.failures import Call, RetriesExhausted, RunnerTimeout, ToolsetBroken
from axon_runner.partial import PartialOutput
from axon_runner.user_code import USER_ERRORS

_event_json = TypeAdapter(
    AgentStreamEvent,
    config=ConfigDict(ser_json_bytes="base64", ser_json_inf_nan="constants"),
).serializer.to_json
_EVENT_DEPTH = 100
# What a provider sends at once is read without a pause; other runs must not wait for all of it.
_EVENTS_IN_A_ROW = 16
_SETUP_SLACK_SECONDS = 0.25
_PARAMETERS_BYTES = 65536
_PARAMETERS_DEPTH = 32
_BUDGET_CAUSES = (ModelRetry, RetryError, ValidationError)


async def drive(attempt: Attempt, plan: Plan, deps: Any, before: asyncio.Task[None] | None) -> None:
    """Runs `attempt` to its terminal event and ends its stream.

    `before` is the task of a lower attempt of the same run, which has been cancelled: nothing
    starts until it has stopped.
    """
    current_attempt.set(attempt)
    attempt.say(
        "attempt_started",
        attempt=attempt.request.attempt,
        generation=attempt.generation.number,
        model=plan.model.name,
        provider=plan.model.provider,
        offline=plan.model.offline,
    )
    try:
        with attempt.generation.threads.used_by(attempt.caller):
            kind, fields = await _outcome(attempt, plan, deps, before)
        try:
            attempt.terminal(kind, fields, _messages(attempt))
        except EncodeError as error:
            fields = _failure(attempt, _unsendable(kind, error))
            attempt.terminal("attempt_failed", fields, _messages(attempt))
    finally:
        attempt.stream.close()


def _unsendable(kind: str, error: EncodeError) -> EncodeError:
    """Returns what it means that the terminal `kind` could not be sent."""
    match kind:
        case "attempt_completed":
            return OutputUnsendable(f"the output cannot be written as JSON: {error}")
        case "attempt_paused":
            return ModelUnsendable(f"the requests cannot be written as JSON: {error}")
        case _:
            return error


async def _outcome(
    attempt: Attempt, plan: Plan, deps: Any, before: asyncio.Task[None] | None
) -> tuple[str, dict[str, Any]]:
    timeout = attempt.request.timeout
    limit = asyncio.timeout(None if timeout is None else timeout + _SETUP_SLACK_SECONDS)
    try:
        async with limit:
            if before is not None:
                await asyncio.wait([before])
            return await _run(attempt, plan, deps)
    except asyncio.CancelledError:
        return "attempt_cancelled", {}
    except RunTimedOut as error:
        return "attempt_failed", _failure(attempt, error)
    except RunCancelled:
        return "attempt_cancelled", {}
    except USER_ERRORS as error:
        if isinstance(error, TimeoutError) and limit.expired():
            error = RunnerTimeout(f"the attempt took longer than {timeout:g} seconds")
        return "attempt_failed", _failure(attempt, error)


async def _run(attempt: Attempt, plan: Plan, deps: Any) -> tuple[str, dict[str, Any]]:
    request = attempt.request
    async with plan.deps.made(deps) as made, AsyncExitStack() as stack:
        try:
            run = await stack.enter_async_context(plan.iter(request, made, request.timeout))
        except USER_ERRORS as error:
            if failures.known(error):
                raise
            raise ToolsetBroken("the agent's toolsets could not be entered") from error
        attempt.begin(run)
        try:
            await _walk(attempt, plan, run)
        except UnexpectedModelBehavior as error:
            if (call := _exhausted(run, error)) is None:
                raise
            raise RetriesExhausted(call) from error
    assert run.result is not None, "a run that ends without an exception has a result"
    await attempt.checkpoint("end", run.all_messages(), wait=False)
    return _completed(run.result.output, run, plan)


def _completed(output: Any, run: AgentRun[Any, Any], plan: Plan) -> tuple[str, dict[str, Any]]:
    if isinstance(output, DeferredToolRequests):
        return "attempt_paused", {"requests": _requests(output, run)}
    return "attempt_completed", {"output": output, "model": _answering(run.all_messages(), plan)}


def _requests(deferred: DeferredToolRequests, run: AgentRun[Any, Any]) -> list[dict[str, Any]]:
    return [
        {
            "tool_call_id": call.tool_call_id,
            "name": call.tool_name,
            "args": call.args_as_dict(),
            "kind": _waits_for(deferred, call.tool_call_id),
            "metadata": deferred.metadata.get(call.tool_call_id),
            "parameters": _parameters(call.tool_name, run),
        }
        for call in (*deferred.approvals, *deferred.calls)
    ]


def _parameters(tool: str, run: AgentRun[Any, Any]) -> dict[str, Any] | None:
    """Returns the schema of a tool's arguments, unless it is too large for each request."""
    definition = run.ctx.deps.tool_manager.get_tool_def(tool)
    if definition is None:
        return None
    schema = definition.parameters_json_schema
    try:
        return schema if len(encode(schema, _PARAMETERS_DEPTH)) <= _PARAMETERS_BYTES else None
    except EncodeError:
        return None


def _waits_for(deferred: DeferredToolRequests, tool_call_id: str) -> str:
    """Returns what a pending call waits for: an approval, an answer, or an external result."""
    if any(call.tool_call_id == tool_call_id for call in deferred.approvals):
        return "approval"
    # Older versions in the tested range know no questions.
    return deferred.kind(tool_call_id) if hasattr(deferred, "kind") else "external"


def _answering(messages: list[ModelMessage], plan: Plan) -> str:
    """Returns the model that gave the answer; a fallback may have served it."""
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            if message.provider_name and message.model_name:
                return f"{message.provider_name}:{message.model_name}"
            break
    return plan.model.name


async def _walk(attempt: Attempt, plan: Plan, run: AgentRun[Any, Any]) -> None:
    """Takes the run from node to node; the first node that acts needs no permit."""
    node: Any = run.next_node
    wait = False
    while not isinstance(node, End):
        match node:
            case ModelRequestNode():
                if wait:
                    pending = [*run.all_messages(), node.request]
                    await attempt.checkpoint("model", pending, wait=True)
                wait = True
                with model_requests.told(attempt, run, node.request):
                    if attempt.request.stream:
                        await _stream_model(attempt, plan, run, node)
                    node = await run.next(node)
                continue
            case CallToolsNode():
                attempt.step = _step(run, node.model_response)
                if wait and _calls_tools(run, node.model_response):
                    await attempt.checkpoint("tools", run.all_messages(), wait=True)
                wait = True
                if attempt.request.stream:
                    await _stream_tools(attempt, run, node)
            case _:
                pass
        node = await run.next(node)


async def _stream_model(
    attempt: Attempt, plan: Plan, run: AgentRun[Any, Any], node: ModelRequestNode[Any, Any]
) -> None:
    partial = PartialOutput(text=plan.text)
    stream = attempt.stream
    async with node.stream(run.ctx) as events:
        count = 0
        async for event in events:
            count += 1
            if count % _EVENTS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            try:
                _forward(attempt, event)
            except EventTooLarge:
                raise
            except EncodeError as error:
                raise ModelUnsendable(f"the model's answer is no JSON: {error}") from error
            value = partial.follow(event)
            if value is not None:
                _show(attempt, value)
            if stream.full:
                await stream.drained()


async def _stream_tools(
    attempt: Attempt, run: AgentRun[Any, Any], node: CallToolsNode[Any, Any]
) -> None:
    stream = attempt.stream
    async with node.stream(run.ctx) as events:
        async for event in events:
            _forward(attempt, event)
            if stream.full:
                await stream.drained()


def _forward(attempt: Attempt, event: AgentStreamEvent) -> None:
    try:
        data = checked(_event_json(event, exclude_none=True), _EVENT_DEPTH)
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise EncodeError(f"a {event.event_kind} event has no JSON form: {error}") from error
    attempt.emit(event.event_kind, data)


def _show(attempt: Attempt, partial: Any) -> None:
    """Sends what is there of the output; one that cannot be sent is left out."""
    with suppress(EncodeError):
        attempt.emit("partial_output", b'{"value":' + encode(partial) + b"}")


def _step(run: AgentRun[Any, Any], response: ModelResponse) -> int:
    """Returns the index of `response` in the run's messages, wherever the run began.

    Requests that stand side by side, behind an approval or a message to the live run, count as
    one: pydantic-ai makes one of them when a later attempt begins with them.
    """
    step, after_request = 0, False
    for message in run.all_messages():
        if message is response:
            return step
        is_request = isinstance(message, ModelRequest)
        step += not (is_request and after_request)
        after_request = is_request
    return max(step - 1, 0)


def _calls_tools(run: AgentRun[Any, Any], response: ModelResponse) -> bool:
    known = run.ctx.deps.tool_manager
    for call in response.tool_calls:
        definition = known.get_tool_def(call.tool_name)
        if definition is None or definition.kind != "output":
            return True
    return False


def _exhausted(run: AgentRun[Any, Any], error: UnexpectedModelBehavior) -> Call | None:
    """Returns the tool call that used up its tool's retries, if that is what `error` is about.

    pydantic-ai raises the same class when the output used up its own; there the budget of every
    other tool of the response is still open.
    """
    if not isinstance(error.__cause__, _BUDGET_CAUSES):
        return None
    manager = run.ctx.deps.tool_manager
    response = next((m for m in reversed(run.all_messages()) if isinstance(m, ModelResponse)), None)
    for call in response.tool_calls if response is not None else ():
        tool = (manager.tools or {}).get(call.tool_name)
        used = manager.ctx.retries.get(call.tool_name, 0) if manager.ctx is not None else 0
        budget = manager.default_max_retries if tool is None else tool.max_retries
        if used >= budget and (tool is None or tool.tool_def.kind != "output"):
            return Call(call.tool_call_id, call.tool_name)
    return None


def _messages(attempt: Attempt) -> list[ModelMessage]:
    if attempt.run is None:
        return list(attempt.request.message_history)
    return attempt.run.all_messages()


def _failure(attempt: Attempt, error: BaseException) -> dict[str, Any]:
    return {"error": failures.describe(error, attempt.redactor)}
