"""Answers on their way to the clients that subscribed to them."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import zmq
from absl import logging

from bert_tf.serving.protocol import topic

PARKED_SECONDS = 30.0
_UNREAD_MESSAGES = 16  # that ZeroMQ holds for one client; the rest is parked here
_LINGER_MS = 10_000  # in which answers that are on their way at the end may arrive
# A client that is gone without a word, or does not read at all, is noticed.
_HEARTBEAT_MS, _NO_HEARTBEAT_MS = 20_000, 60_000
_MAX_SUBSCRIPTION_BYTES = 4096
_MESSAGES_A_TURN = 256


class Outbox:
    """An XPUB socket that loses nothing within `PARKED_SECONDS`.

    What is published before its client's subscription has arrived is lost in a PUB socket, and so
    is what a client does not read fast enough. Here both are parked, in order, for a while.
    """

    def __init__(self, context: zmq.Context, address: str):
        self.socket = context.socket(zmq.XPUB)
        # A subscription is ours to make, and a full pipe an error instead of a loss.
        for option, value in (
            (zmq.XPUB_MANUAL, 1),
            (zmq.XPUB_NODROP, 1),
            (zmq.SNDHWM, _UNREAD_MESSAGES),
            (zmq.LINGER, _LINGER_MS),
            (zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION_BYTES),
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, _NO_HEARTBEAT_MS),
        ):
            self.socket.setsockopt(option, value)
        self.socket.bind(address)
        self._subscribers: Counter[bytes] = Counter()
        self._parked: dict[bytes, deque[tuple[float, list[Any], int]]] = {}
        self._on_the_way: deque[tuple[zmq.MessageTracker, int]] = deque()  # in ZeroMQ's hands
        self.dropped = 0

    def __bool__(self) -> bool:
        """Whether something is parked."""
        return bool(self._parked)

    def subscriptions(self) -> None:
        """Takes in who came and who went."""
        for _ in range(_MESSAGES_A_TURN):
            if not self.socket.poll(0):
                return
            message = self.socket.recv()
            name = topic(message[1:])
            if message[:1] == b"\1":
                self.socket.setsockopt(zmq.SUBSCRIBE, name)
                self._subscribers[name] += 1
            elif message[:1] == b"\0":
                self._subscribers[name] -= 1
                if self._subscribers[name] <= 0:
                    del self._subscribers[name]

    def send(self, frames: list[Any], reserved: int = 0) -> int:
        """Sends an answer, or parks it.

        `reserved` bytes are given back by the return value of this call or a later `tend`.
        """
        name = frames[0]
        if name not in self._parked and (sent := self._send(frames, reserved)) is not None:
            return sent
        self._parked.setdefault(name, deque()).append((time.monotonic(), frames, reserved))
        return 0

    def tend(self, now: float) -> int:
        """Sends what can be sent by now, and drops what waited for too long.

        Returns the bytes freed.
        """
        freed = 0
        for _ in range(len(self._on_the_way)):
            tracker, reserved = self._on_the_way.popleft()
            if tracker.done:
                freed += reserved
            else:
                self._on_the_way.append((tracker, reserved))
        for name in list(self._parked):
            freed += self._retry(name)
            queue = self._parked.get(name, ())
            while queue and now - queue[0][0] > PARKED_SECONDS:
                freed += queue.popleft()[2]
                self.dropped += 1
                logging.log_every_n_seconds(
                    logging.WARNING, "an answer was dropped: nobody took it", 10
                )
            if not queue:
                self._parked.pop(name, None)
        return freed

    def _retry(self, name: bytes) -> int:
        queue, freed = self._parked[name], 0
        while queue and (sent := self._send(*queue[0][1:])) is not None:
            freed += sent
            queue.popleft()
        return freed

    def _send(self, frames: list[Any], reserved: int) -> int | None:
        """The bytes freed at once, or None if it cannot be sent now."""
        if frames[0] not in self._subscribers:
            return None
        try:
            tracker = self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
        except zmq.Again:  # the client does not read
            return None
        if tracker.done:
            return reserved
        self._on_the_way.append((tracker, reserved))
        return 0
