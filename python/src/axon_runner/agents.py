"""From a spec to an agent that is ready to run; built once per distinct spec."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.agent import AbstractAgent, AgentRetries
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.run import AgentRun
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.toolsets.abstract import AbstractToolset
from pydantic_ai.usage import UsageLimits
from pydantic_core import to_json

from axon_runner import models, output, schemas, toolset
from axon_runner.attempt import current_attempt
from axon_runner.deps import Deps
from axon_runner.launch import ConfigError
from axon_runner.memory import ImportedMemory
from axon_runner.models import ResolvedModel
from axon_runner.registry import Registry
from axon_runner.schemas import SchemaCheck
from axon_runner.wire import RetriesSpec, RunRequest, Spec, ToolSpec, parse_spec

_CACHED = 32
_FIXED_BY_MODULE = ("name", "description", "end_strategy", "tool_timeout", "validate_output")


@dataclass(frozen=True)
class Plan:
    """An agent with everything that its runs have in common."""

    agent: AbstractAgent[Any, Any]
    model: ResolvedModel
    deps: Deps
    text: bool
    overrides: dict[str, Any]
    dynamic_instructions: tuple[Any, ...] = ()

    def iter(
        self, request: RunRequest, deps: Any, timeout: float | None
    ) -> AbstractAsyncContextManager[AgentRun[Any, Any]]:
        """Opens the run of one attempt."""
        own = self.overrides.get("model_settings")
        settings = {"max_retries": 0, **(own or {}), **(request.model_settings or {})}
        given = () if request.instructions is None else (request.instructions,)
        metadata = {**self.overrides.get("metadata", {}), **(request.metadata or {})}
        return self.agent.iter(
            **{
                **self.overrides,
                "user_prompt": request.prompt,
                "message_history": request.message_history or None,
                "deferred_tool_results": request.deferred_tool_results,
                "conversation_id": request.conversation_id,
                "run_id": f"{request.run_id}.{request.attempt}",
                "model": self.model.model,
                "instructions": [*given, *self.dynamic_instructions] or None,
                "deps": deps,
                "model_settings": settings,
                "usage_limits": request.usage_limits or UsageLimits(request_limit=None),
                "usage": request.usage,
                "timeout": timeout,
                "metadata": metadata or None,
                "infer_name": False,
            }
        )


class Agents:
    """Builds plans and keeps the most recently used."""

    def __init__(self, registry: Registry, memory: ImportedMemory) -> None:
        self._registry = registry
        self._memory = memory
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()

    def plan(self, spec: dict[str, Any]) -> Plan:
        """Returns the plan of `spec`.

        Raises `ConfigError`, and the errors of pydantic-ai, for a spec that cannot be built.
        """
        key = to_json(spec)
        plan = self._plans.get(key)
        if plan is None:
            plan = _build(parse_spec(spec), self._registry)
            self._plans[key] = plan
            self._memory.settle()
            if len(self._plans) > _CACHED:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan


def _build(spec: Spec, registry: Registry) -> Plan:
    plan = _from_data(spec, registry) if spec.module is None else _from_module(spec, registry)
    dynamic = (registry.get("instructions", target).value for target in spec.dynamic_instructions)
    return replace(plan, dynamic_instructions=tuple(dynamic))


def _from_data(spec: Spec, registry: Registry) -> Plan:
    resolved = models.resolve(spec.model, spec.provider, registry)
    if any(tool.target == "module" for tool in spec.tools):
        raise ConfigError("only an agent defined in Python has tools with target module")
    answer = output.build(spec.output)
    tools = toolset.build(spec.tools, registry, spec.tool_timeout)
    data = {
        "name": spec.name,
        "description": spec.description,
        "retries": _retries(spec.retries),
        "end_strategy": spec.end_strategy,
        "metadata": spec.metadata,
        "capabilities": spec.capabilities,
    }
    agent = Agent.from_spec(
        {key: value for key, value in data.items() if value is not None},
        model=resolved.model,
        output_type=answer.type,
        deps_type=object,
        tools=tools,
        capabilities=list(answer.capabilities) or None,
    )
    if spec.validate_output:
        agent.output_validator(_checked_by_rust)
    overrides = {"model_settings": spec.model_settings} if spec.model_settings else {}
    return Plan(agent, resolved, _deps(spec, registry, None), answer.text, overrides)


def _from_module(spec: Spec, registry: Registry) -> Plan:
    if spec.module != registry.module:
        raise ConfigError(f"{spec.module} is not the agent that this runner was launched with")
    fixed = [key for key in _FIXED_BY_MODULE if getattr(spec, key) is not None]
    if fixed:
        raise ConfigError(f"{', '.join(fixed)} of {spec.module} cannot be overridden")
    agent: AbstractAgent[Any, Any] = registry.agent
    resolved = models.resolve(spec.model or agent.model, spec.provider, registry)
    own = toolset.own(spec.tools, agent)
    overrides: dict[str, Any] = {"capabilities": [_Observer(own)]}
    text = agent.output_type is str
    if spec.output is not None:
        answer = output.build(spec.output)
        text = answer.text
        overrides["output_type"] = answer.type
        overrides["capabilities"].extend(answer.capabilities)
    elif any(tool.requires_approval for tool in own.values()):
        overrides["output_type"] = output.pausing(agent)
    tools = toolset.build(spec.tools, registry, spec.tool_timeout)
    if tools:
        overrides["toolsets"] = [toolset.AddedToolset(tools)]
    if spec.retries is not None:
        overrides["retries"] = _retries(spec.retries)
    if settings := _module_settings(spec, agent):
        overrides["model_settings"] = settings
    if spec.metadata:
        overrides["metadata"] = spec.metadata
    if spec.capabilities:
        overrides["spec"] = {"capabilities": spec.capabilities}
    return Plan(agent, resolved, _deps(spec, registry, agent), text, overrides)


def _module_settings(spec: Spec, agent: Any) -> dict[str, Any]:
    """Returns the overrides; the provider SDK's own retries stay as the agent sets them."""
    own = getattr(agent, "model_settings", None)
    kept = (
        {"max_retries": own["max_retries"]}
        if isinstance(own, dict) and "max_retries" in own
        else {}
    )
    return {**kept, **(spec.model_settings or {})}


def _deps(spec: Spec, registry: Registry, agent: AbstractAgent[Any, Any] | None) -> Deps:
    # Rust has checked them already; an environment of the user's may lack what it takes here.
    checks = spec.deps_schema is not None and schemas.can_check()
    check = SchemaCheck(dict(spec.deps_schema or {}), "the deps") if checks else None
    if spec.deps_factory is not None:
        return Deps(registry.get("deps_factory", spec.deps_factory).value, check=check)
    return Deps(deps_type=agent.deps_type if agent is not None else None, check=check)


async def _checked_by_rust(ctx: RunContext[Any], output: Any) -> Any:
    """Has Rust look at an answer that is whole; a pause is none."""
    if not ctx.partial_output and not isinstance(output, DeferredToolRequests):
        await current_attempt.get().check_output(ctx, output)
    return output


def _retries(retries: int | RetriesSpec | None) -> int | AgentRetries | None:
    if not isinstance(retries, RetriesSpec):
        return retries
    budgets = AgentRetries()
    if retries.tools is not None:
        budgets["tools"] = retries.tools
    if retries.output is not None:
        budgets["output"] = retries.output
    return budgets


@dataclass
class _Observer(AbstractCapability[Any]):
    """Puts the runner's tool wrapper around the tools of an agent defined in Python."""

    own: Mapping[str, ToolSpec]

    def get_wrapper_toolset(self, toolset_: AbstractToolset[Any]) -> AbstractToolset[Any] | None:
        return toolset.ObservedToolset(toolset_, self.own)
