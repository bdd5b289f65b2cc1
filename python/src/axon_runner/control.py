"""The control socket: one launch record in, any number of records out, one JSON line each."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from contextlib import suppress
from typing import Any

_LAUNCH_BYTES = 64 * 1024 * 1024
_QUEUED_RECORDS = 1024
_STDERR = 2


class Control:
    """Writes records from any thread without ever blocking the caller.

    A writer thread owns the sending side behind a bounded queue. When the parent does not read,
    log records are dropped and counted; ready and failed records are written by `send_now`.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._lock = threading.Lock()
        self._records: queue.Queue[dict[str, Any]] = queue.Queue(_QUEUED_RECORDS)
        # Reentrant: a finaliser may log while this thread holds it.
        self._counting = threading.RLock()
        self._dropped = 0
        self._writer: threading.Thread | None = None

    def read_launch(self) -> bytes:
        """Reads the launch line; empty when the parent closed the socket before writing it."""
        received = bytearray()
        while not received.endswith(b"\n") and len(received) < _LAUNCH_BYTES:
            chunk = self._socket.recv(65536)
            if not chunk:
                return b""
            received += chunk
        return bytes(received)

    def send_now(self, record: dict[str, Any]) -> None:
        """Writes `record` before it returns; a parent that is gone is no error.

        When user code has closed the socket, the record goes to stderr, which the parent reads too.
        """
        line = json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._socket.sendall(line)
        except ConnectionError:
            return
        except OSError as error:
            told = f"axon_runner: the control socket is closed ({error}); it lost "
            with suppress(OSError):
                os.write(_STDERR, told.encode() + line)

    def send(self, record: dict[str, Any]) -> None:
        """Queues `record`; drops it when the queue is full, which a later record tells."""
        if self._writer is None:
            with self._lock:
                if self._writer is None:
                    self._writer = threading.Thread(target=self._write, daemon=True)
                    self._writer.start()
        with self._counting:
            try:
                self._records.put_nowait(record)
            except queue.Full:
                self._dropped += 1

    def flush(self, seconds: float) -> None:
        """Waits up to `seconds` until every queued record is written."""
        if self._writer is None:
            return
        done = threading.Thread(target=self._records.join, daemon=True)
        done.start()
        done.join(seconds)

    def _write(self) -> None:
        while True:
            record = self._records.get()
            # What is dropped is dropped while others wait: one of those tells.
            with self._counting:
                dropped, self._dropped = self._dropped, 0
            self.send_now({**record, "dropped_before": dropped} if dropped else record)
            self._records.task_done()
