"""From the model's name in a spec to a pydantic-ai model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

from axon_runner import http_client, patches
from axon_runner.launch import ConfigError
from axon_runner.registry import Registry
from axon_runner.wire import ProviderSpec


@dataclass(frozen=True)
class ResolvedModel:
    """A model, and what is said about it on the wire."""

    model: Model
    name: str
    provider: str
    offline: bool


def resolve(name: Any, provider: ProviderSpec | None, registry: Registry) -> ResolvedModel:
    """Builds the model that `name` stands for: a string, or a model that is built already.

    Raises `ConfigError` for what is not registered, and lets pydantic-ai's own errors through.
    """
    if isinstance(name, str) and name.startswith("python:"):
        name = _registered(name.removeprefix("python:"), registry)
    if name is None:
        raise ConfigError("the agent has no model")
    try:
        model = name if isinstance(name, Model) else _infer(name, provider)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"cannot use model {name!r}: {error}") from error
    patches.apply()
    inner = model
    while isinstance(inner, WrapperModel):
        inner = inner.wrapped
    return ResolvedModel(
        model=model,
        name=name_of(model),
        provider=model.system,
        offline=isinstance(inner, (TestModel, FunctionModel)),
    )


def name_of(model: Model) -> str:
    """Returns `provider:model`; the names of function models begin with the provider already."""
    prefix = f"{model.system}:"
    return prefix + model.model_name.removeprefix(prefix)


def _registered(target: str, registry: Registry) -> Any:
    value = registry.get("model", target).value
    if callable(value) and not isinstance(value, Model):
        value = value()
    if not isinstance(value, (Model, str)):
        raise ConfigError(f"{target} gives a {type(value).__name__}, not a model")
    return value


def _infer(name: str, provider: ProviderSpec | None) -> Model:
    given: dict[str, str] = {}
    if provider is not None and provider.base_url is not None:
        given["base_url"] = provider.base_url
    if provider is not None and provider.api_key_env is not None:
        key = os.environ.get(provider.api_key_env)
        if not key:
            raise ConfigError(f"the variable {provider.api_key_env} is not set in this runner")
        given["api_key"] = key

    client = http_client.arguments(name.partition(":")[0])
    if not given and not client:
        return infer_model(name, infer_provider)

    def build(provider_name: str) -> Provider[Any]:
        return infer_provider_class(provider_name)(**given, **client)

    return infer_model(name, build)
