"""How the inherited socket is served."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from axon_runner import event_loop, server


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, event_loop.new_event_loop])
def test_a_burst_waits_while_the_loop_is_busy(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    loop = new_loop()
    with ExitStack() as opened:
        opened.callback(loop.close)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listening = server._listen(asyncio.Protocol, listener.detach())  # type: ignore[arg-type]
        serving = loop.run_until_complete(listening)
        opened.callback(serving.close)
        # Nobody accepts from here on.
        for _ in range(300):
            caller = opened.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            caller.connect(path)
