"""Ties the life of the runner and its children to its parent's.

The parent holds the only write end of a pipe. When the parent is gone, however it went, the
kernel closes that end and SIGKILLs the runner's process group. No Python code takes part in it,
so it also works while C code holds the GIL.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading

_F_SETSIG = 10


def arm(fd: int) -> None:
    """Arms the lifeline on the read end `fd`; kills the group at once if it is already cut."""
    if sys.platform == "linux":
        leads_group = os.getpgrp() == os.getpid()
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp() if leads_group else os.getpid())
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        threading.Thread(target=_wait_for_end, args=(fd,), daemon=True).start()
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        _kill_group()


def _wait_for_end(fd: int) -> None:
    while os.read(fd, 1):
        pass
    _kill_group()


def _kill_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
