"""The process that speaks HTTP beside the server: started, watched, ended."""

from __future__ import annotations

import contextlib
import socket
import uuid
from typing import Any

from absl import logging

from bert_tf.serving import processes
from bert_tf.serving.assets import Plan

_PAUSE = 1.0  # seconds between two starts


class HttpProcess:
    """Listens at `-bind` and `-http_port`, and lets a process of its own answer.

    The server's one thread makes no JSON of vectors and waits for no browser. Who connects while
    the process is started again waits in the socket's queue.

    Args:
      ports: the server's own two.

    Raises:
      ValueError: the port is taken.
    """

    def __init__(self, plan: Plan, ports: tuple[int, int]):
        self._plan, self._ports = plan, ports
        arguments = plan.arguments
        try:
            self._socket = socket.create_server((arguments.bind, arguments.http_port))
        except OSError as error:
            raise ValueError(f"-http_port={arguments.http_port}: {error.strerror}") from error
        # Connections inherit it; asyncio sets it only where the protocol's number is given. Without
        # it, the body of an answer waits 40 ms for its header to be acknowledged.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self.identity = str(uuid.uuid4()).encode()  # of the process as a client
        self._process: Any = None
        self._connection: Any = None
        self._start_at = 0.0
        self._stopping = False

    def tend(self, now: float) -> None:
        """Starts the process, and starts it again when it ended."""
        if self._stopping or self.alive or now < self._start_at:
            return
        if self._process is not None:
            logging.error("the process that speaks HTTP ended and is started again")
            self._connection.close()
        self._start_at = now + _PAUSE
        # Here, for only the process needs its packages.
        from bert_tf.serving import http_app

        given = self._socket, self._plan, self._ports, self.identity
        try:
            self._process, self._connection = processes.start(
                "bert-serving-http", http_app.main, *given
            )
        except OSError as error:  # no memory or no processes left, for now
            logging.error("the process that speaks HTTP cannot start: %s", error)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def stop(self) -> None:
        """Takes no more connections; what is asked already is answered."""
        if self._stopping:
            return
        self._stopping = True
        self._socket.close()
        if self.alive:
            with contextlib.suppress(OSError):  # it is about to end anyway
                self._connection.send("stop")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
