"""Takes the locks of a model's stream without going round the event loop for each.

pydantic-ai holds three of them while it waits for an event, in case somebody closes the stream
meanwhile. Nobody else holds them, and `anyio` yields to the event loop all the same unless a lock
is told not to. Whoever reads events yields now and then instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import anyio

from axon_runner.patches.patch import Patch, Unfit, unchanged

_OF_STREAM = ("_anext_lock", "_model_pull_lock")
_OF_SOURCE = "_source_lock"


def _install(module: Any) -> None:
    stream, source = module.AgentStream, module._utils.PeekableAsyncStream
    unchanged(source.__init__, "self", "source")
    made = {field.name: field.default_factory for field in fields(stream)}
    if any(made.get(name) is not anyio.Lock for name in _OF_STREAM):
        raise Unfit("a stream has other locks")
    if not isinstance(getattr(source(None), _OF_SOURCE, None), anyio.Lock):
        raise Unfit("a source has another lock")
    _quick()
    stream.__init__ = _followed(stream.__init__, _OF_STREAM)
    source.__init__ = _followed(source.__init__, (_OF_SOURCE,))


def _quick() -> anyio.Lock:
    return anyio.Lock(fast_acquire=True)


def _followed(init: Callable[..., None], names: tuple[str, ...]) -> Callable[..., None]:
    """Returns `init` with a quick lock in each of these places."""

    def followed(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        for name in names:
            setattr(self, name, _quick())

    return followed


STREAM_LOCKS = Patch(
    name="stream_locks",
    module="pydantic_ai.result",
    distribution="pydantic-ai-slim",
    tried=((2, 68), (2, 69)),
    install=_install,
)
"""Some hundred rounds of the event loop for each streamed run."""
