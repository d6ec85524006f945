"""Which worker gets which rows, and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from absl import logging

from bert_tf.serving import worker
from bert_tf.serving.assets import Plan
from bert_tf.serving.jobs import Job, Ticket
from bert_tf.serving.pool import DIED, Event, Pool, Worker
from bert_tf.serving.protocol import FAILED, Refused
from bert_tf.serving.scheduler import MAX_TOKENS_ON_GPU, Scheduler
from bert_tf.serving.statistics import Statistics

_MAX_AHEAD = 2  # batches sent to a busy worker, whatever -prefetch_size says
_MAX_DEATHS = 3  # workers that may die of a row


class Dispatcher:
    """The rows that wait, and the workers that compute them.

    Args:
      finish: called with a job and its array [N, D] or [N, T, D].
      fail: called with a job, which may have ended, and why it cannot be done.

    Attributes:
      vector_size: D, known when the first worker is ready.
      failure: why no worker comes up, if that is so.
    """

    def __init__(
        self,
        plan: Plan,
        statistics: Statistics,
        finish: Callable[[Job, np.ndarray], None],
        fail: Callable[[Job, Refused], None],
    ):
        self.plan, self.arguments, self.statistics = plan, plan.arguments, statistics
        self.scheduler = Scheduler(self.arguments.max_batch_size)
        self.pool = Pool(plan)
        self.vector_size: int | None = None
        self.tensorflow_version = ""
        self.failure: str | None = None
        self._finish, self._fail = finish, fail
        self._last_batch = 0

    def ready_workers(self) -> list[Worker]:
        return [one for one in self.pool.workers if one.ready]

    def patience(self, now: float) -> float | None:
        """Milliseconds until waiting rows are sent without company; None if nothing is sent so."""
        since = self.scheduler.waiting_since()
        if since is None or all(one.sent for one in self.ready_workers()):
            return None
        return max(0.0, 1 + 1000 * (since - now) + self.arguments.batch_wait)

    def dispatch(self) -> None:
        """Sends batches as long as there are rows and a worker to take them."""
        while self.scheduler.size:
            ready = self.ready_workers()
            idle = [one for one in ready if not one.sent]
            worth = self.scheduler.is_worth_a_batch()
            if idle:
                chosen = idle[0] if worth or self._waited_enough() else None
            else:
                chosen = self._least_loaded(ready) if worth else None
            if chosen is None:
                return
            if tickets := self.scheduler.take(len(ready), len(idle)):
                self.pool.send(chosen, tickets)

    def _least_loaded(self, ready: list[Worker]) -> Worker | None:
        """The worker that gets a batch ahead of time, if any."""
        one = min(ready, key=lambda one: len(one.sent), default=None)
        ahead = self.arguments.prefetch_size
        return one if one is not None and len(one.sent) <= min(ahead, _MAX_AHEAD) else None

    def _waited_enough(self) -> bool:
        """Whether the waiting rows are as many as were answered last: whose clients, if they come
        again, are here then; or the time for that is over."""
        since = self.scheduler.waiting_since()
        late = since is None or time.monotonic() - since >= self.arguments.batch_wait / 1000
        return late or self.scheduler.size >= self._last_batch

    def collect(self) -> None:
        """Takes in what came from the workers."""
        for event in self.pool.events():
            self._handle(event)

    def _handle(self, event: Event) -> None:
        one = event.worker
        if event.kind == worker.READY:
            self.vector_size, self.tensorflow_version, on_gpu = event.first
            if on_gpu:
                self.scheduler.max_tokens = MAX_TOKENS_ON_GPU
            ready, workers = len(self.ready_workers()), self.arguments.num_worker
            print(f"ready: {ready} of {workers} workers", flush=True)
        elif event.kind == DIED:
            for _, tickets in one.sent.values():
                self._retry(tickets)
            one.sent.clear()
            if self.pool.hopeless:
                self.failure = self.failure or "no worker comes up; see the server's log"
        elif event.first is None:  # it could not load the model, and dies
            if self.vector_size is None:
                self.failure = event.second
            else:
                logging.error("worker %d: %s", one.slot, event.second)
        else:
            self._answered(one, event)

    def _answered(self, one: Worker, event: Event) -> None:
        sent, tickets = one.sent.pop(event.first)
        if event.kind == worker.ERROR:
            for ticket in tickets:
                self._fail(ticket.job, Refused(FAILED, f"the model failed: {event.second}"))
            return
        self._last_batch = len(tickets)
        self.statistics.batch(len(tickets), time.monotonic() - sent)
        if self.arguments.verbose:
            print(f"worker {one.slot}: batch {event.first}, {len(tickets)} texts", flush=True)
        for ticket, vectors in zip(tickets, event.second, strict=True):
            job = ticket.job
            if job.ended:
                continue
            job.put(ticket.place, vectors)
            if job.complete:
                self._finish(job, job.array(self._fixed_length))

    @property
    def _fixed_length(self) -> int | None:
        """T of an answer [N, T, D], unless it is that of its longest text."""
        if self.arguments.max_seq_len is not None or self.arguments.fixed_embed_length:
            return self.plan.max_length
        return None

    def _retry(self, tickets: list[Ticket]) -> None:
        for ticket in reversed(tickets):
            ticket.deaths += 1
            job = ticket.job
            if ticket.deaths >= _MAX_DEATHS:
                self._fail(job, Refused(FAILED, "the workers that computed it died"))
            elif not job.ended:
                self.scheduler.add(ticket, again=True)
