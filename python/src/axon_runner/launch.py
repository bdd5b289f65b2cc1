"""The launch record: what this generation of the runner may call, and its secrets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from axon_runner.faults import faults

PROTOCOL = 1

_NAME = r"[A-Za-z_]\w*"
TARGET_PATTERN = rf"^{_NAME}(\.{_NAME})*:{_NAME}$"

Target = Annotated[str, StringConstraints(pattern=TARGET_PATTERN)]
Role = Literal["tool", "deps_factory", "model", "lifespan", "instructions", "reconcile"]
Effect = Literal["pure", "idempotent", "once"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Callable(_Record):
    """One object of user code that requests may name."""

    target: Target
    role: Role
    effect: Effect | None = None


class Limits(_Record):
    """Bounds that Rust sets and both ends enforce."""

    attempts: int = Field(default=64, ge=1, strict=True)
    body_bytes: int = Field(default=16 * 1024 * 1024, ge=1, strict=True)
    event_bytes: int = Field(default=8 * 1024 * 1024, ge=1, strict=True)
    json_depth: int = Field(default=64, ge=1, le=100, strict=True)
    heartbeat_ms: int = Field(default=60_000, ge=1, strict=True)


class Launch(_Record):
    """What Rust says once, before anything else happens."""

    type: Literal["launch"]
    protocol: Literal[1]
    generation: int = Field(strict=True)
    token: str = Field(min_length=1, repr=False)
    agent: str
    path: tuple[str, ...] = ()
    package: str | None = None
    module: Target | None = None
    callables: tuple[Callable, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    log_level: Literal["debug", "info"] = "info"


class ConfigError(Exception):
    """What was asked for does not fit the configuration; asking again does not help."""


def parse(line: bytes) -> Launch:
    """Returns the launch record in `line`.

    Raises `ConfigError` naming every fault.
    """
    try:
        return Launch.model_validate_json(line)
    except ValidationError as error:
        raise ConfigError(f"the launch record cannot be used: {faults(error)}") from None
