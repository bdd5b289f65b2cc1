"""From the JSON that callers give to the live object that Python tools get."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import to_json

from axon_runner.failures import DepsBroken
from axon_runner.faults import faults
from axon_runner.launch import ConfigError
from axon_runner.schemas import SchemaCheck
from axon_runner.user_code import USER_ERRORS

_NO_TYPE = (None, type(None), object, Any)


class Deps:
    """Makes deps once per run, by a factory, by a type, or not at all.

    A factory gets the deps JSON as its only argument, validated into the type that the argument
    is annotated with, if any. What it returns is awaited, and entered when it is a context
    manager.
    """

    def __init__(
        self,
        factory: Callable[..., Any] | None = None,
        deps_type: Any = None,
        check: SchemaCheck | None = None,
    ) -> None:
        self._factory = factory
        self._check = check
        self._takes_argument = True
        self._adapter: TypeAdapter[Any] | None = None
        if factory is not None:
            self._adapter = self._of_factory(factory)
        elif deps_type not in _NO_TYPE:
            self._adapter = _adapter(deps_type)
            if self._adapter is None:
                raise ConfigError(
                    f"deps of type {deps_type} cannot be made from JSON; name a deps factory"
                )

    def parse(self, given: Any) -> Any:
        """Returns the JSON `given` as the factory or the agent wants it.

        Raises `ConfigError` when it does not fit.
        """
        if self._check is not None and (wrong := self._check.faults(given)):
            raise ConfigError(f"invalid deps: {wrong}")
        if self._adapter is None:
            return given
        try:
            return self._adapter.validate_json(to_json(given))
        except ValidationError as error:
            raise ConfigError(f"invalid deps: {faults(error)}") from None

    @asynccontextmanager
    async def made(self, parsed: Any) -> AsyncGenerator[Any]:
        """Makes the deps and takes them down again; failures of user code are `DepsBroken`."""
        if self._factory is None:
            yield parsed
            return
        stack = AsyncExitStack()
        try:
            deps = await self._enter(stack, parsed)
        except USER_ERRORS as error:
            raise DepsBroken("the deps factory failed") from error
        try:
            yield deps
        except BaseException as error:
            await stack.__aexit__(type(error), error, error.__traceback__)
            raise
        try:
            await stack.aclose()
        except USER_ERRORS as error:
            raise DepsBroken("taking the deps down failed") from error

    async def _enter(self, stack: AsyncExitStack, parsed: Any) -> Any:
        assert self._factory is not None
        made = self._factory(parsed) if self._takes_argument else self._factory()
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            return await stack.enter_async_context(made)
        if hasattr(made, "__enter__"):
            return stack.enter_context(made)
        return made

    def _of_factory(self, factory: Callable[..., Any]) -> TypeAdapter[Any] | None:
        try:
            parameters = list(inspect.signature(factory, eval_str=True).parameters.values())
        except NameError:
            return None
        self._takes_argument = bool(parameters)
        if not parameters or parameters[0].annotation in (*_NO_TYPE, inspect.Parameter.empty):
            return None
        return _adapter(parameters[0].annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return None
