"""The routes: from a request to a reply, with every failure as an error object."""

from __future__ import annotations

import asyncio
import hmac
import os
import platform
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from axon_runner import __version__, describe, failures, patches, reconcile, tool_calls, tuning
from axon_runner.agents import Agents, Plan
from axon_runner.attempt import Generation
from axon_runner.decode import DecodeError, decode
from axon_runner.encode import EncodeError, encode, encode_result, loosely
from axon_runner.faults import faults
from axon_runner.http import Head, Reply, Response, Service
from axon_runner.launch import PROTOCOL, TARGET_PATTERN, ConfigError, Launch
from axon_runner.memory import ImportedMemory
from axon_runner.refusals import Refusals
from axon_runner.registry import Registry
from axon_runner.runs import Refused, Runs, refused
from axon_runner.sse import EventStream
from axon_runner.trace import Incoming
from axon_runner.user_code import USER_ERRORS
from axon_runner.wire import (
    Message,
    Permit,
    ReconcileRequest,
    RunRequest,
    ToolCall,
    ToolResult,
    ValidateRequest,
)

_Request = TypeVar("_Request", bound=BaseModel)
_TOOL = re.compile(rf"^/v1/tools/(?P<target>{TARGET_PATTERN[1:-1]})/(?P<verb>call|reconcile)$")
_RUN = re.compile(r"^/v1/runs/([^/]+)(?:/(permit|tool_results|messages))?$")
_DIRECT_CALL = re.compile(r"^/v1/calls/([^/]+)$")
_NO_CONTENT = Response(204)


class App:
    """Answers the requests of one generation."""

    def __init__(
        self, launch: Launch, registry: Registry, generation: Generation, pydantic_ai: str
    ) -> None:
        self._authorization = b"Bearer " + launch.token.encode()
        self._limits = launch.limits
        self._registry = registry
        patches.apply()
        memory = ImportedMemory()
        memory.settle()
        self._agents = Agents(registry, memory)
        self._generation = generation
        self._pydantic_ai = pydantic_ai
        self.runs = Runs(generation, memory)
        self._direct_calls = tool_calls.DirectCalls(registry, generation.threads)
        self.drained = asyncio.Event()
        self._refusals = Refusals()

    def service(self) -> Service:
        """Returns what connections need."""
        return Service(self._admit, self._handle, self._refuse, self._limits.body_bytes)

    def _admit(self, head: Head) -> Response | None:
        given = head.headers.get(b"authorization", b"")
        if hmac.compare_digest(given, self._authorization):
            return None
        message = "the bearer token is missing or not of this generation"
        self._tell(401, head, message)
        return self._refuse(401, message)

    def _refuse(self, status: int, message: str) -> Response:
        return _error(status, failures.plain("config", message), close=True)

    def _handle(self, head: Head, body: bytes) -> Reply:
        try:
            return self._route(head, body)
        except Refused as refusal:
            self._tell(refusal.status, head, refusal.error["message"])
            return _error(refusal.status, refusal.error)
        except USER_ERRORS as error:
            return _error(500, failures.describe(error, self._generation.redactor))

    def _route(self, head: Head, body: bytes) -> Reply:
        match head.method, head.path:
            case "GET", "/healthz":
                return Response(200, encode(self._health()))
            case "GET", "/v1/schema":
                return Response(200, encode(describe.wire(self._registry.agent), depth=100))
            case "POST", "/v1/agents/validate":
                return self._validate(body)
            case "POST", "/v1/runs":
                return self._start(head, body)
            case "POST", "/v1/drain":
                return self._drain()
            case method, path if match := _RUN.match(path):
                return self._of_run(method, match[1], match[2], body)
            case "POST", path if match := _TOOL.match(path):
                return self._of_tool(head, match["target"], match["verb"], body)
            case "DELETE", path if match := _DIRECT_CALL.match(path):
                if not self._direct_calls.cancel(match[1]):
                    raise refused(404, "config", f"no call {match[1]} is under way")
                return Response(202)
            case _:
                raise refused(404, "config", f"there is no {head.method} {head.path}")

    def _of_run(self, method: str, run_id: str, verb: str | None, body: bytes) -> Response:
        match method, verb:
            case "DELETE", None:
                self.runs.find(run_id).cancel()
                return Response(202)
            case "POST", "permit":
                permit = self._parse(Permit, body)
                if not self.runs.find(run_id, permit.attempt).permit(permit.seq):
                    raise refused(404, "config", f"there is no event {permit.seq} yet")
                return _NO_CONTENT
            case "POST", "tool_results":
                result = self._parse(ToolResult, body)
                if not self.runs.find(run_id, result.attempt).answer(result):
                    raise refused(404, "config", f"no call {result.tool_call_id} waits")
                return _NO_CONTENT
            case "POST", "messages":
                message = self._parse(Message, body)
                attempt = self.runs.find(run_id, message.attempt)
                if not attempt.steering.take(message):
                    raise refused(410, "config", f"run {run_id} takes no more messages")
                return Response(202)
            case _:
                raise refused(404, "config", f"there is no {method} /v1/runs/…/{verb or ''}")

    def _health(self) -> dict[str, Any]:
        return {
            "ok": True,
            "pid": os.getpid(),
            "attempts": len(self.runs),
            "protocol": PROTOCOL,
            "python": platform.python_version(),
            "pydantic_ai": self._pydantic_ai,
            "generation": self._generation.number,
            "axon_runner": __version__,
            "tuning": tuning.found(),
            "draining": self.runs.draining,
            "unfinished": [
                *self.runs.unfinished(),
                *self._direct_calls.unfinished(),
                *self._generation.threads.unfinished(),
            ],
        }

    def _validate(self, body: bytes) -> Response:
        request = self._parse(ValidateRequest, body)
        plan = self._plan(request.spec)
        if "deps" in request.model_fields_set:
            self._deps(plan, request.deps)
        return Response(200, encode({"model": plan.model.name, "offline": plan.model.offline}))

    def _start(self, head: Head, body: bytes) -> EventStream:
        if self.runs.draining:
            self.runs.admit("", 1)
        request = self._parse(RunRequest, body)
        self.runs.admit(request.run_id, request.attempt)
        plan = self._plan(request.spec)
        deps = self._deps(plan, request.deps)
        return self.runs.start(request, plan, deps, Incoming.of(head.headers))

    def _plan(self, spec: dict[str, Any]) -> Plan:
        try:
            return self._agents.plan(spec)
        except USER_ERRORS as error:
            raise self._misconfigured(error) from error

    def _deps(self, plan: Plan, given: Any) -> Any:
        try:
            return plan.deps.parse(given)
        except USER_ERRORS as error:
            raise self._misconfigured(error, phase="deps") from error

    def _misconfigured(self, error: BaseException, **known: Any) -> Refused:
        redactor = self._generation.redactor
        known |= {"kind": "config", "retryable": False}
        return Refused(400, failures.describe(error, redactor, **known))

    def _tell(self, status: int, head: Head, message: str) -> None:
        # To cancel what is over already, or to come while it is full, is everyday business.
        if head.method != "DELETE" and status not in (429, 503):
            self._refusals.tell(status, f"{head.method} {head.path}", message)

    def _of_tool(self, head: Head, target: str, verb: str, body: bytes) -> Reply:
        if verb == "call":
            return self._call_tool(head, target, self._parse(ToolCall, body))
        return self._reconcile(head, target, self._parse(ReconcileRequest, body))

    async def _reconcile(self, head: Head, target: str, request: ReconcileRequest) -> Response:
        try:
            threads = self._generation.threads
            verdict = await reconcile.ask(self._registry, target, request, threads)
            return Response(200, reconcile.encoded(target, verdict, self._limits.json_depth))
        except USER_ERRORS as error:
            return self._tool_failure(head, target, error)

    async def _call_tool(self, head: Head, target: str, request: ToolCall) -> Response:
        try:
            result = await self._direct_calls.call(target, request)
            data = encode_result(target, result, self._limits.json_depth)
            return Response(200, b'{"result":' + data + b"}")
        except USER_ERRORS as error:
            return self._tool_failure(head, target, error)

    def _tool_failure(self, head: Head, target: str, error: BaseException) -> Response:
        tool = {"tool_call_id": None, "name": target}
        known: dict[str, Any] = {"kind": "tool", "retryable": False, "tool": tool}
        match error:
            case tool_calls.InvalidArguments():
                return self._failure(400, error, **known, phase="arguments")
            case ConfigError():
                status = 404 if isinstance(error, tool_calls.NotRegistered) else 400
                self._tell(status, head, str(error))
                return self._failure(status, error)
            case failures.DepsBroken():
                return self._failure(422, error, tool=tool)
            case EncodeError():
                return self._failure(422, error, **known)
            case _:
                traced = failures.trace(error, self._generation.redactor)
                return self._failure(422, error, **known, traceback=traced)

    def _failure(self, status: int, error: BaseException, **known: Any) -> Response:
        return _error(status, failures.describe(error, self._generation.redactor, **known))

    def _drain(self) -> Response:
        self.runs.draining = True
        self.drained.set()
        return Response(202, encode({"attempts": len(self.runs)}))

    def _parse(self, model: type[_Request], body: bytes) -> _Request:
        try:
            decode(body, self._limits.json_depth)
            return model.model_validate_json(body)
        except DecodeError as error:
            raise Refused(400, failures.plain("decode", str(error))) from None
        except ValidationError as error:
            message = f"the body is no {model.__name__}: {faults(error)}"
            raise refused(400, "config", self._generation.redactor.text(message)) from None


def _error(status: int, error: dict[str, Any], *, close: bool = False) -> Response:
    return Response(status, loosely({"error": error}), close)
