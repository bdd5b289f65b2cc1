"""The objects of user code that this generation may touch, imported once at launch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

from axon_runner.launch import ConfigError, Effect, Launch, Role


@dataclass(frozen=True)
class Registered:
    """An imported object and what it may be used for."""

    value: Any
    role: Role
    effect: Effect


class Registry:
    """Looks up registered objects by role and target."""

    def __init__(self, objects: dict[tuple[Role, str], Registered], module: str | None, agent: Any):
        self._objects = objects
        self.module = module
        self.agent = agent

    def get(self, role: Role, target: str) -> Registered:
        """Returns the object registered as `target` for `role`.

        Raises `ConfigError` when there is none.
        """
        try:
            return self._objects[role, target]
        except KeyError:
            raise ConfigError(f"{target} is not registered as a {role} of this runner") from None

    def find(self, role: Role) -> list[tuple[str, Registered]]:
        """Returns every object registered for `role`, with its target, in launch order."""
        return [(target, entry) for (at, target), entry in self._objects.items() if at == role]


def load(launch: Launch) -> Registry:
    """Imports everything the launch record names.

    Raises `ConfigError` for a name that is missing, and lets exceptions of the modules through.
    """
    objects: dict[tuple[Role, str], Registered] = {}
    for entry in launch.callables:
        objects[entry.role, entry.target] = Registered(
            value=_resolve(entry.target), role=entry.role, effect=entry.effect or "once"
        )
    agent = _resolve(launch.module) if launch.module else None
    if launch.module:
        _require_agent(launch.module, agent)
    return Registry(objects, launch.module, agent)


def extend_path(launch: Launch) -> None:
    """Appends the project's folders to the import path.

    Raises `ConfigError` when the agent's own package has the name of an installed module.
    """
    if launch.package is not None:
        installed = importlib.util.find_spec(launch.package)
        if installed is not None:
            places = installed.submodule_search_locations or [installed.origin or "built-in"]
            raise ConfigError(
                f"the agent's package {launch.package!r} (in {', '.join(launch.path)}) has the name"
                f" of an installed module ({next(iter(places))}); rename the agent's folder"
            )
    sys.path.extend(entry for entry in launch.path if entry not in sys.path)
    importlib.invalidate_caches()


def _resolve(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        place = getattr(module, "__file__", None) or "built-in"
        raise ConfigError(f"module {module_name!r} ({place}) has no {attribute!r}") from None


def _require_agent(target: str, value: Any) -> None:
    from pydantic_ai.agent import AbstractAgent

    if not isinstance(value, AbstractAgent):
        raise ConfigError(f"{target} is a {type(value).__name__}, not a pydantic_ai.Agent")
