"""The HTTP client of a provider: that of pydantic-ai, on a cheaper transport if there is one."""

from __future__ import annotations

import os
import urllib.request
from functools import cache
from importlib.metadata import version
from ssl import SSLContext
from typing import Any

try:
    import httpx2
    from pydantic_ai.models import create_async_httpx2_client

    from axon_runner.transport import AiohttpTransport
except ImportError:  # an environment of the user's, without aiohttp or with an older pydantic-ai
    AVAILABLE = False
else:
    AVAILABLE = True

KIND = f"aiohttp {version('aiohttp')}" if AVAILABLE else "the SDK's own"
"""Which transport model requests take, for the runner's versions."""

# What stands before the colon of a model's name. The classes of these providers give their SDK
# exactly the client that is replaced here.
_PROVIDERS = frozenset(
    {
        "openai",
        "openai-chat",
        "openai-responses",
        "anthropic",
        "deepseek",
        "ollama",
        "openrouter",
        "vllm",
    }
)


def arguments(provider: str) -> dict[str, Any]:
    """Returns the arguments that give `provider` the cheaper client; none when it keeps its own.

    Behind a proxy every provider keeps its own client, which knows how to use one.
    """
    if not AVAILABLE or provider not in _PROVIDERS or _behind_proxy():
        return {}
    return {"http_client": _client()}


def _behind_proxy() -> bool:
    # `no` names the hosts that no proxy is used for; alone it means nothing.
    return not urllib.request.getproxies().keys() <= {"no"}


@cache
def _client() -> httpx2.AsyncClient:
    """Returns the one client of this process: credentials and addresses are the SDK's."""
    # The limits that pydantic-ai gives its own client.
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return create_async_httpx2_client(transport=AiohttpTransport(_trusted(), limits))


def prepare() -> None:
    """Reads the certificates that every client of this environment trusts."""
    if AVAILABLE:
        _trusted()


def _trusted() -> SSLContext:
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _context(_file: str | None, _folder: str | None) -> SSLContext:
    """Returns what httpx2 trusts by default, which depends on these two variables."""
    return httpx2.create_ssl_context()
