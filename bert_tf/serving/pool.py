"""The worker processes: started, fed, watched, and started again when they die."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import queue
import socket
import threading
import time
from typing import Any

from absl import logging

from bert_tf.serving import processes, worker
from bert_tf.serving.assets import Plan
from bert_tf.serving.jobs import Ticket

STUCK_SECONDS = 600.0  # for one batch, after which a worker is killed
_MAX_PAUSE = 30.0  # seconds between two starts of a worker that dies again and again
_GIVE_UP = 5  # starts in a row that failed
DIED = "died"  # what comes when the pipe of a worker closes


class Worker:
    """One process and what it has to do."""

    def __init__(self, slot: int):
        self.slot = slot
        self.process: Any = None
        self.connection: Any = None
        self.ready = False
        self.failures = 0  # since it was last ready
        self.restarts = 0
        self.start_at = 0.0
        self.sent: dict[int, tuple[float, list[Ticket]]] = {}  # by number of the batch


@dataclasses.dataclass
class Event:
    """What came from a worker: `kind` is READY, DONE, ERROR or DIED."""

    worker: Worker
    kind: str
    first: Any = None
    second: Any = None


class Pool:
    """`-num_worker` processes. `fileno()` becomes readable when there are events."""

    def __init__(self, plan: Plan):
        self.plan = plan
        arguments: argparse.Namespace = plan.arguments
        self.workers = [Worker(slot) for slot in range(arguments.num_worker)]
        self._threads = max(1, len(os.sched_getaffinity(0)) // len(self.workers))
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._number = 0
        self.stopping = False

    def fileno(self) -> int:
        return self._reader.fileno()

    def tend(self, now: float) -> None:
        """Starts what is due, and kills what is stuck."""
        for one in self.workers:
            if one.process is None and one.start_at <= now and not self.stopping:
                self._start(one)
            if one.sent and now - min(sent for sent, _ in one.sent.values()) > STUCK_SECONDS:
                logging.error("worker %d did not answer for %d s", one.slot, STUCK_SECONDS)
                one.process.kill()

    def events(self) -> list[Event]:
        """What has come."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        for event in found:
            self._note(event)
        return found

    @property
    def hopeless(self) -> bool:
        """Whether no worker comes up any more."""
        return all(one.failures >= _GIVE_UP for one in self.workers)

    @property
    def restarts(self) -> int:
        return sum(one.restarts for one in self.workers)

    def send(self, one: Worker, tickets: list[Ticket]) -> None:
        self._number += 1
        one.sent[self._number] = (time.monotonic(), tickets)
        with contextlib.suppress(OSError):  # it died; its event is on the way
            one.connection.send(worker.Work(self._number, [ticket.row for ticket in tickets]))

    def stop(self) -> None:
        """Ends the processes; they have nothing left to do."""
        self.stopping = True
        for one in self.workers:
            if one.process is not None:
                one.process.terminate()
        for one in self.workers:
            if one.process is not None:
                one.process.join(5)
                one.process.kill()

    def kill(self) -> None:
        """Ends the processes at once, whatever they do."""
        self.stopping = True
        for one in self.workers:
            if one.process is not None:
                one.process.kill()

    def _start(self, one: Worker) -> None:
        devices = self.plan.arguments.device_map
        device = str(devices[one.slot % len(devices)]) if devices else None
        device = "-1" if self.plan.arguments.cpu else device
        try:
            one.process, one.connection = processes.start(
                f"bert-serving-worker-{one.slot}",
                worker.main,
                self.plan,
                self._threads,
                device,
            )
        except OSError as error:  # no memory or no processes left, for now
            logging.error("worker %d cannot start: %s", one.slot, error)
            one.failures += 1
            one.start_at = time.monotonic() + min(_MAX_PAUSE, 2.0**one.failures)
            return
        threading.Thread(target=self._receive, args=(one, one.connection), daemon=True).start()

    def _receive(self, one: Worker, connection: Any) -> None:
        """A thread for each process: a worker that stops in the middle of a message holds up
        nothing else."""
        try:
            while True:
                self._put(Event(one, *connection.recv()))
        except (EOFError, OSError):
            self._put(Event(one, DIED))

    def _put(self, event: Event) -> None:
        self._events.put(event)
        self.wake()

    def wake(self) -> None:
        """Makes `fileno()` readable, from any thread or signal handler."""
        with contextlib.suppress(BlockingIOError):  # full of such bytes, it is readable
            self._writer.send(b"\0")

    def _note(self, event: Event) -> None:
        one = event.worker
        if event.kind == worker.READY:
            one.ready, one.failures = True, 0
        if event.kind != DIED:
            return
        one.connection.close()
        one.process.join(5)
        one.process.kill()
        pause = 0.0 if one.ready else min(_MAX_PAUSE, 2.0**one.failures)
        one.failures += not one.ready
        one.restarts += 1
        one.process, one.ready, one.start_at = None, False, time.monotonic() + pause
        if not self.stopping:
            logging.error("worker %d ended and is started again in %.0f s", one.slot, pause)
