"""Answers on their way to the clients that subscribed to them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import zmq
from absl import logging

from bert_tf.serving import protocol

PARKED_SECONDS = 30.0
_UNREAD_MESSAGES = 16  # that ZeroMQ holds for one client; the rest is parked here
_LINGER_MS = 10_000  # in which answers that are on their way at the end may arrive
# A client that is gone without a word, or does not read at all, is noticed.
_HEARTBEAT_MS, _NO_HEARTBEAT_MS = 20_000, 60_000
_MAX_SUBSCRIPTION_BYTES = 4096
_MESSAGES_A_TURN = 256
_LATE_SECONDS = 10.0  # between a client's first request and its subscription, whichever is first
_MAX_KEPT_BYTES = 64 << 20  # of answers that are kept for subscriptions to come


class Latecomers:
    """First requests whose client has not subscribed yet, and what they were answered.

    Several clients may share an identity. So a subscription to it does not tell that the client
    which asks now has subscribed. But every client subscribes once and numbers its requests from
    1. So this class matches each first request with one subscription, whichever comes first. An
    answer that was sent in between is kept for the subscription.
    """

    def __init__(self) -> None:
        self._early: dict[bytes, deque[float]] = {}  # subscriptions without a request, by name
        self._asked: dict[bytes, deque[float]] = {}  # first requests without a subscription
        self._answers: dict[bytes, deque[list[Any]]] = {}
        self._bytes = 0
        self._all: deque[tuple[float, bytes]] = deque()  # what is noted above, the oldest first

    def request(self, name: bytes, now: float) -> None:
        """Note the first request of a client."""
        self._match(name, now, self._early, self._asked)

    def subscription(self, name: bytes, now: float) -> list[Any] | None:
        """Note a subscription; return the answer that it came too late for, if there is one."""
        if not self._match(name, now, self._asked, self._early):
            return None
        answers = self._answers.get(name)
        late = answers.popleft() if answers else None
        self._bytes -= _size(late or ())
        if name not in self._asked:
            self._forget_answers(name)
        return late

    def answered(self, frames: list[Any]) -> None:
        """Keep an answer that was sent to the subscribers so far, if one more is expected."""
        size = _size(frames)
        first = frames[0] in self._asked and int(frames[-1]) == 1
        if first and self._bytes + size <= _MAX_KEPT_BYTES:
            self._answers.setdefault(frames[0], deque()).append(frames)
            self._bytes += size

    def tend(self, now: float) -> None:
        """Forget what is too old."""
        while self._all and now - self._all[0][0] > _LATE_SECONDS:
            _, name = self._all.popleft()
            for noted in (self._early, self._asked):
                while name in noted and now - noted[name][0] > _LATE_SECONDS:
                    _pop(noted, name)
            if name not in self._asked:
                self._forget_answers(name)

    def _match(
        self,
        name: bytes,
        now: float,
        others: dict[bytes, deque[float]],
        own: dict[bytes, deque[float]],
    ) -> bool:
        """Whether the other half is there, which is used up then; else this half is noted."""
        if name in others:
            _pop(others, name)
            return True
        own.setdefault(name, deque()).append(now)
        self._all.append((now, name))
        return False

    def _forget_answers(self, name: bytes) -> None:
        self._bytes -= sum(map(_size, self._answers.pop(name, ())))


def _pop(noted: dict[bytes, deque[float]], name: bytes) -> None:
    noted[name].popleft()
    if not noted[name]:
        del noted[name]


def _size(frames: Iterable[Any]) -> int:
    return sum(memoryview(frame).nbytes for frame in frames)


class Outbox:
    """An XPUB socket that loses nothing within `PARKED_SECONDS`.

    What is published before its client's subscription has arrived is lost in a PUB socket, and so
    is what a client does not read fast enough. Here both are parked, in order, for a while. Where
    others of the client's identity have subscribed before it, its first answer is sent again.
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
        self._latecomers = Latecomers()
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
            name = protocol.topic(message[1:])
            if message[:1] == b"\1":
                self.socket.setsockopt(zmq.SUBSCRIBE, name)
                self._subscribers[name] += 1
                late = self._latecomers.subscription(name, time.monotonic())
                if late is not None:
                    self._send_to_newest([protocol.private_topic(message[1:]), *late[1:]])
            elif message[:1] == b"\0":
                self._subscribers[name] -= 1
                if self._subscribers[name] <= 0:
                    del self._subscribers[name]

    def _send_to_newest(self, frames: list[Any]) -> None:
        """Send to the subscriber alone whose subscription came last."""
        # In manual mode a subscription is one of the pipe that was read from last.
        self.socket.setsockopt(zmq.SUBSCRIBE, frames[0])
        with contextlib.suppress(zmq.Again):
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        self.socket.setsockopt(zmq.UNSUBSCRIBE, frames[0])

    def asked(self, request: protocol.Request) -> None:
        """Take note of a request before it is answered."""
        if int(request.request_id) == 1:
            self._latecomers.request(protocol.topic(request.identity), time.monotonic())

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
        self._latecomers.tend(now)
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
        self._latecomers.answered(frames)
        if tracker.done:
            return reserved
        self._on_the_way.append((tracker, reserved))
        return 0
