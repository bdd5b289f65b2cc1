"""One attempt of one run: what it has said, and what it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import ModelMessage, ToolReturn
from pydantic_ai.run import AgentRun
from pydantic_ai.usage import RunUsage

from axon_runner import threads, trace
from axon_runner.asked_tools import AskedTools
from axon_runner.call import CurrentCall, under_way
from axon_runner.encode import EncodeError, EventTooLarge, encode, encode_result, loosely
from axon_runner.failures import Call, ToolBroken
from axon_runner.launch import Effect, Limits
from axon_runner.redaction import Redactor
from axon_runner.run_log import RunLog
from axon_runner.rust_tools import Asking, RustToolRefused, asked_by
from axon_runner.sse import EventStream
from axon_runner.state import State
from axon_runner.steering import Steering
from axon_runner.threads import Caller, Threads
from axon_runner.trace import Incoming, outgoing
from axon_runner.transcript import Transcript
from axon_runner.user_code import USER_ERRORS
from axon_runner.wire import RunRequest, ToolResult

current_attempt: ContextVar[Attempt] = ContextVar("current_attempt")

_usage_json = TypeAdapter(RunUsage).serializer.to_json
_tool_return: TypeAdapter[ToolReturn[Any]] = TypeAdapter(ToolReturn)
_RESERVED_BYTES = 4096
_PINGS = 4  # in each heartbeat: one may be late, and one be lost in what is said just then

Run = Callable[[dict[str, Any], RunContext[Any]], Awaitable[Any]]
Before = Literal["model", "tools", "end"]


@dataclass(frozen=True, slots=True)
class Generation:
    """What every attempt of this launch shares."""

    number: int
    limits: Limits
    redactor: Redactor
    threads: Threads


class Attempt:
    """Owned by the task that drives it; requests reach in through the waiting futures."""

    def __init__(self, request: RunRequest, generation: Generation, incoming: Incoming) -> None:
        self.request = request
        self.incoming = incoming
        self.generation = generation
        heartbeat = generation.limits.heartbeat_ms / 1000
        self.stream = EventStream(self.cancel, heartbeat / _PINGS)
        self.run: AgentRun[Any, Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.step = 0
        self._transcript = Transcript(request.message_history)
        self._permits: dict[int, asyncio.Future[None]] = {}
        self._asked: dict[str, asyncio.Future[ToolResult]] = {}
        self._asked_tools = AskedTools(request.spec, generation.limits.json_depth)
        self._loop = asyncio.get_running_loop()
        self.redactor = generation.redactor.also(request.secrets)
        self.state = State(request.state, generation.limits.json_depth)
        self._checks = 0
        self._log = RunLog(self.stream, self.emit)
        self.steering = Steering()
        self._seq = 0
        self._cancelled: float | None = None

    @property
    def over(self) -> bool:
        """Says whether the attempt has nothing more to say."""
        return self.task is not None and self.task.done()

    @property
    def caller(self) -> Caller:
        """On whose behalf the attempt's user code runs."""
        return Caller(self.request.run_id, lambda: self.over)

    def begin(self, run: AgentRun[Any, Any]) -> None:
        """Says which run the attempt makes."""
        self.run = run
        self.steering.begin(run)

    def cancel(self) -> None:
        """Cancels the attempt; its task says so on the stream.

        Once: a second time would break what user code cleans up meanwhile.
        """
        if self.task is not None and self._cancelled is None:
            self._cancelled = time.monotonic()
            self.task.cancel()

    @property
    def lingering(self) -> float | None:
        """Says for how many seconds the attempt has not ended although it was cancelled."""
        if self._cancelled is None or self.over:
            return None
        return time.monotonic() - self._cancelled

    def emit(self, kind: str, data: bytes) -> int:
        """Sends one event and returns its sequence number.

        Raises `EventTooLarge` when it is larger than the other end reads.
        """
        limit = self.generation.limits.event_bytes - _RESERVED_BYTES
        if len(data) > limit:
            raise EventTooLarge(f"a {kind} event has {len(data)} bytes; {limit} is the limit")
        self._seq = self.stream.emit(kind, data)
        return self._seq

    def say(self, kind: str, **fields: Any) -> int:
        """Sends one event of plain fields and returns its sequence number."""
        return self.emit(kind, encode(fields, self.generation.limits.json_depth))

    def log(self, record: dict[str, Any]) -> None:
        """Sends a log record; safe from any thread."""
        self._log.add(record)

    def usage(self) -> bytes:
        """Returns the usage so far; it is mutated in place, so only its bytes may be kept."""
        usage = self.run.usage if self.run is not None else self.request.usage or RunUsage()
        return _usage_json(usage)

    async def checkpoint(self, before: Before, messages: list[ModelMessage], wait: bool) -> None:
        """Says what the recording side has to record, and waits for its permit if `wait`."""
        base, tail = self._transcript.advance(messages)
        delivered = encode(self.steering.delivered())
        seq = self.emit(
            "checkpoint",
            b'{"base":%d,"messages":[%b],"usage":%b,"before":"%b","delivered":%b}'
            % (base, b",".join(tail), self.usage(), before.encode(), delivered),
        )
        if wait:
            await self._permitted(seq)

    def terminal(self, kind: str, fields: dict[str, Any], messages: list[ModelMessage]) -> None:
        """Sends the last event; messages that do not fit in are left to the checkpoints.

        Raises `EncodeError` when `fields` cannot be sent.
        """
        self._log.finish()
        try:
            self._transcript.advance(messages)
            added = b",".join(self._transcript.added())
        except EncodeError:
            added = b""
        rest = encode(fields, self.generation.limits.json_depth)[1:-1]
        omitted = len(rest) + len(added) + 2 * _RESERVED_BYTES > self.generation.limits.event_bytes
        parts = [rest] if rest else []
        parts.append(b'"usage":' + self.usage())
        parts.append(b'"undelivered":' + encode(self.steering.close()))
        parts.append(b'"new_messages":[' + (b"" if omitted else added) + b"]")
        if omitted:
            parts.append(b'"new_messages_omitted":true')
        self.emit(kind, b"{" + b",".join(parts) + b"}")

    def permit(self, seq: int) -> bool:
        """Lets the attempt go on after event `seq`; says whether there was such an event."""
        waiting = self._permits.get(seq)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        return 0 < seq <= self._seq

    def answer(self, result: ToolResult) -> bool:
        """Hands `result` to the tool call that waits for it; says whether one does."""
        waiting = self._asked.get(result.tool_call_id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(result)
        return True

    async def ask_rust(
        self, ctx: RunContext[Any], args: dict[str, Any], seconds: float | None
    ) -> Any:
        """Asks Rust to run a tool and returns its result, or raises what Rust decided."""
        call = _call(ctx)
        waiting: asyncio.Future[ToolResult] = self._loop.create_future()
        self._asked[call.tool_call_id or ""] = waiting
        fields: dict[str, Any] = {
            "tool_call_id": call.tool_call_id,
            "step": self.step,
            "name": call.name,
            "args": args,
            "retry": ctx.retry,
            "max_retries": ctx.max_retries,
            "approved": ctx.tool_call_approved,
            "timeout": seconds,
            **outgoing(),
        }
        try:
            with _arguments():
                self.say("tool_request", **fields)
            result = await waiting
        except asyncio.CancelledError:
            self.say("tool_request_cancelled", tool_call_id=call.tool_call_id)
            raise
        finally:
            del self._asked[call.tool_call_id or ""]
        for patch in result.patches:
            self.state.apply(patch)
        if result.usage is not None:
            ctx.usage.incr(result.usage)
        return _unwrap(result, call)

    async def check_output(self, ctx: RunContext[Any], output: Any) -> None:
        """Has Rust look at an answer; raises what it says against it."""
        self._checks += 1
        check_id = f"output:{self._checks}"
        waiting: asyncio.Future[ToolResult] = self._loop.create_future()
        self._asked[check_id] = waiting
        try:
            self.say(
                "output_check",
                check_id=check_id,
                output=output,
                retry=ctx.retry,
                max_retries=ctx.max_retries,
            )
            result = await waiting
        finally:
            del self._asked[check_id]
        if result.status == "retry":
            raise ModelRetry(result.message or "Try again.")
        if result.status != "ok":
            raise ToolBroken(Call(None, "the output's validators"), result.message or "", {})

    def _asking(self, ctx: RunContext[Any]) -> Asking:
        """Lets a Python tool ask Rust tools within its own call."""

        async def ask(call_id: str, name: str, given: Mapping[str, Any]) -> Any:
            args, seconds = self._asked_tools.admit(name, given)
            # Whoever approved the outer call has not seen this one.
            inner = replace(
                ctx, tool_call_id=call_id, tool_name=name, retry=0, tool_call_approved=False
            )
            try:
                return await self.ask_rust(inner, args, seconds)
            except ApprovalRequired:
                raise RustToolRefused(
                    f"a person has to approve {name} with these arguments, so only the model can"
                    " call it"
                ) from None

        return Asking(ctx.tool_call_id or "", ask, self._loop)

    async def call_python(
        self, ctx: RunContext[Any], args: dict[str, Any], run: Run, effect: Effect
    ) -> Any:
        """Calls a Python tool, or gives back what it returned in an earlier attempt.

        One with effect `once` is not called before it is recorded that it will be.
        """
        call = _call(ctx)
        recorded = self.request.recorded
        if call.tool_call_id in recorded:
            result = recorded[call.tool_call_id]
            self._finished(call, "ok", encode(result), recorded=True)
            return _restored(result)
        with trace.span() as span_id:
            return await self._made(ctx, args, run, (effect, span_id))

    async def _made(
        self,
        ctx: RunContext[Any],
        args: dict[str, Any],
        run: Run,
        told: tuple[Effect, str | None],
    ) -> Any:
        """Calls a Python tool and tells of it."""
        call, effect = _call(ctx), told[0]
        current = self._current(call)
        with _arguments():
            seq = self.emit("tool_started", self._started(call, args, told))
        if effect == "once":
            await self._permitted(seq)
        else:
            # The event is written before the tool can block the loop, or end the process.
            await asyncio.sleep(0)
        try:
            asking = self._asking(ctx)
            with threads.tool(call.name), under_way(current), asked_by(asking):
                result = await run(args, ctx)
        except ModelRetry as error:
            self._returned(call, "retry", error.message)
            raise
        except ToolFailed as error:
            self._returned(call, "failed", error.message)
            raise
        except (ApprovalRequired, CallDeferred) as error:
            self._deferred(call, error.metadata)
            raise
        except ToolBroken:
            # A Rust tool that this one asked: it is that call that failed.
            raise
        except USER_ERRORS as error:
            raise ToolBroken(call) from error
        self._returned(call, "ok", result)
        return result

    def _returned(self, call: Call, outcome: str, result: Any) -> None:
        with self._failing(call):
            data = encode_result(call.name, result, self.generation.limits.json_depth)
            self._finished(call, outcome, data)

    def _deferred(self, call: Call, metadata: dict[str, Any] | None) -> None:
        """Ends a call that did nothing but ask for a decision.

        Refuses metadata that could not be in the requests of `attempt_paused`.
        """
        with self._failing(call):
            depth = self.generation.limits.json_depth - 3
            data = encode_result(call.name, metadata or None, depth)
            self._finished(call, "deferred", data)

    @contextmanager
    def _failing(self, call: Call) -> Iterator[None]:
        """Ends a call as failed when it gave what cannot be said."""
        try:
            yield
        except EncodeError as error:
            message = self.redactor.text(str(error))
            self._finished(call, "failed", encode(message))
            raise ToolBroken(call) from error

    async def _permitted(self, seq: int) -> None:
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._permits[seq] = waiting
        try:
            await waiting
        finally:
            del self._permits[seq]

    def _current(self, call: Call) -> CurrentCall:
        request = self.request
        return CurrentCall(request.run_id, self.step, call.tool_call_id or "", request.attempt)

    def _started(self, call: Call, args: dict[str, Any], told: tuple[Effect, str | None]) -> bytes:
        effect, span_id = told
        return loosely(
            {
                "tool_call_id": call.tool_call_id,
                "step": self.step,
                "name": call.name,
                "args": args,
                "effect": effect,
                "permit": effect == "once",
                **({} if span_id is None else {"span_id": span_id}),
            }
        )

    def _finished(self, call: Call, outcome: str, result: bytes, *, recorded: bool = False) -> None:
        head = encode(
            {
                "tool_call_id": call.tool_call_id,
                "step": self.step,
                "name": call.name,
                "outcome": outcome,
                "recorded": recorded,
            }
        )
        changes = self.state.changes()
        state = b"" if changes is None else b',"state":' + changes
        self.emit("tool_finished", head[:-1] + state + b',"result":' + result + b"}")


def _call(ctx: RunContext[Any]) -> Call:
    return Call(ctx.tool_call_id, ctx.tool_name or "")


@contextmanager
def _arguments() -> Iterator[None]:
    """Asks the model again when the arguments of its call cannot be said."""
    try:
        yield
    except EncodeError as error:
        raise ModelRetry(f"The arguments cannot be used: {error}.") from None


def _unwrap(result: ToolResult, call: Call) -> Any:
    match result.status:
        case "ok":
            return _restored(result.content)
        case "retry":
            raise ModelRetry(result.message or "Try again.")
        case "failed":
            raise ToolFailed(result.message or "The tool failed.")
        case "needs_approval":
            raise ApprovalRequired(result.metadata)
        case "needs_answer":
            raise CallDeferred(result.metadata)
        case "error":
            remote = {"class": result.kind or "ToolError", "retryable": result.retryable}
            raise ToolBroken(call, result.message or "", remote)


def _restored(result: Any) -> Any:
    """Returns a recorded result as the tool gave it: a `ToolReturn` comes back as one."""
    if isinstance(result, dict) and result.get("kind") == "tool-return":
        return _tool_return.validate_json(encode(result))
    return result
