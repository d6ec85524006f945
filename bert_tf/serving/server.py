"""The server: requests in, batches to the workers, answers out. One thread; no TensorFlow."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections import deque
from typing import Any

import numpy as np
import zmq
from absl import logging

from bert_tf.base_tokenizer import Tokenizer
from bert_tf.serving import protocol, worker
from bert_tf.serving.assets import Plan
from bert_tf.serving.flags import SERVER_VERSION, PoolingStrategy
from bert_tf.serving.jobs import Job, Ticket
from bert_tf.serving.outbox import PARKED_SECONDS, Outbox
from bert_tf.serving.pool import DIED, Event, Pool, Worker
from bert_tf.serving.protocol import BAD_REQUEST, BUSY, FAILED, STOPPING, Refused, Request
from bert_tf.serving.rows import RowMaker
from bert_tf.serving.scheduler import Scheduler
from bert_tf.serving.statistics import Statistics

_VERSION = importlib.metadata.version("bert_tf")
_MESSAGES_A_TURN = 64
_TEXTS_A_TURN = 64  # that are tokenized before the sockets are looked at again
_POLL_MS, _RETRY_MS = 1000, 2
_MAX_AHEAD = 2  # batches sent to a busy worker, whatever -prefetch_size says
_MAX_DEATHS = 3  # workers that may die of a row
_MAX_ANSWER_BYTES = 2 << 30  # of all requests that are not answered yet, together
_LAST_SECONDS = 3.0  # in which a client may still take its answer, when all are computed
_UNREAD_REQUESTS = 64  # that ZeroMQ holds for one client


class Server:
    """A bert-as-service server.

    Raises:
      zmq.ZMQError: a port is taken.
    """

    def __init__(self, plan: Plan, tokenizer: Tokenizer):
        self.plan, self.arguments = plan, plan.arguments
        self.rows = RowMaker(plan, tokenizer)
        self.scheduler = Scheduler(self.arguments.max_batch_size)
        self.statistics = Statistics()
        self.pool = Pool(plan)
        self.vector_size: int | None = None  # D, known when the first worker is ready
        self.tensorflow_version = ""
        self.stopping = False
        self.failed = False  # whether no worker comes up
        self._admitted: deque[Job] = deque()  # with texts that are no rows yet
        self._open: set[Job] = set()
        self._texts = self._reserved = self._last_batch = 0
        context: Any = zmq.Context.instance()
        self._inbox = context.socket(zmq.PULL)
        self._inbox.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
        self._inbox.setsockopt(zmq.RCVHWM, _UNREAD_REQUESTS)
        self._inbox.bind(f"tcp://{self.arguments.bind}:{self.arguments.port}")
        address = f"tcp://{self.arguments.bind}:{self.arguments.port_out}"
        self._outbox = Outbox(context, address)
        self.ports = tuple(
            int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
            for socket in (self._inbox, self._outbox.socket)
        )
        self._poller = zmq.Poller()
        for socket in (self._inbox, self._outbox.socket, self.pool.fileno()):
            self._poller.register(socket, zmq.POLLIN)

    # ---------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Serves until `stop` is called and all that was accepted is answered."""
        try:
            while not (self.stopping and not self._open and not self._outbox):
                now = time.monotonic()
                self.pool.tend(now)
                self._poller.poll(int(self._timeout(now)))
                self._outbox.subscriptions()
                self._receive()
                for event in self.pool.events():
                    self._handle(event)
                self._tokenize()
                self._dispatch()
                ending = self.stopping and not self._open
                patience = _LAST_SECONDS if ending else PARKED_SECONDS
                self._reserved -= self._outbox.tend(time.monotonic(), patience)
        finally:
            self.pool.stop()
            self._inbox.close(0)
            self._outbox.socket.close()

    def stop(self) -> None:
        """Takes no more texts, and lets `run` end when the accepted ones are answered."""
        self.stopping = True
        self.pool.wake()

    def _timeout(self, now: float) -> float:
        """Milliseconds until there is something to do without a message."""
        if self._admitted:
            return 0
        timeout = _RETRY_MS if self._outbox else _POLL_MS
        since = self.scheduler.waiting_since()
        if since is not None and any(not one.sent for one in self._ready_workers()):
            timeout = min(timeout, 1 + 1000 * (since - now) + self.arguments.batch_wait)
        return max(0.0, timeout)

    # ------------------------------------------------------------------------- requests in

    def _receive(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                frames = self._inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            request = protocol.parse(frames)
            if request is None:
                self.statistics.request(b"", "malformed")
                logging.log_every_n_seconds(
                    logging.WARNING, "a message that is no request was dropped", 10
                )
                continue
            try:
                if request.body in protocol.COMMANDS:
                    self.statistics.request(request.identity, "system")
                    self._outbox.send(protocol.answer(request, self._command(request.body)))
                else:
                    self._accept(request)
            except Refused as refused:
                self._refuse(request, refused)

    def _command(self, body: bytes) -> dict[str, Any]:
        if body == protocol.TERMINATION:
            if not self.arguments.allow_remote_terminate:
                raise Refused(
                    BAD_REQUEST,
                    "the server was started without -allow_remote_terminate; end it by SIGTERM",
                )
            self.stop()
            return {"terminating": True}
        if body == protocol.SHOW_METRICS:
            self._note_state()
            return {"metrics": self.statistics.metrics()}
        return self.status(body == protocol.SHOW_STATUS)

    def _accept(self, request: Request) -> None:
        if self.stopping:
            raise Refused(STOPPING, "the server is stopping")
        texts = protocol.parse_texts(request.body)
        self.statistics.request(request.identity, "data", len(texts))
        limit = self.arguments.max_waiting
        if len(texts) > limit:
            raise Refused(
                BAD_REQUEST,
                f"{len(texts)} texts at once are more than -max_waiting={limit}; send fewer",
            )
        if self._texts + len(texts) > limit:
            raise Refused(
                BUSY, f"the server is busy: {self._texts} texts are before yours; try again later"
            )
        reserved = len(texts) * self._row_bytes
        if reserved > _MAX_ANSWER_BYTES:
            raise Refused(
                BAD_REQUEST, f"an answer of {reserved >> 20} MB is too large; send fewer texts"
            )
        if self._reserved + reserved > _MAX_ANSWER_BYTES:
            raise Refused(
                BUSY,
                f"the server is busy: {self._reserved >> 20} MB of answers are computed or not "
                "taken; try again later",
            )
        job = Job(request, texts, reserved, len(texts) <= self.arguments.priority_batch_size)
        self._open.add(job)
        self._texts += job.size
        self._reserved += reserved
        if not texts:
            self._finish(job, np.empty((0, self.vector_size or 0), np.float32))
        elif job.small:
            self._admit(job, job.size)
        else:
            self._admitted.append(job)

    @property
    def _row_bytes(self) -> int:
        """Of the answer, for one text; at most."""
        size = self.vector_size or self.plan.config.hidden_size
        by_token = self.arguments.pooling_strategy == PoolingStrategy.NONE
        return 4 * size * (self.plan.max_length if by_token else 1)

    def _tokenize(self) -> None:
        """A few texts of a large request, so that small ones are not held up by it."""
        if self._admitted:
            job = self._admitted[0]
            self._admit(job, _TEXTS_A_TURN)
            if job.ended or not job.texts:
                self._admitted.popleft()

    def _admit(self, job: Job, count: int) -> None:
        """Makes rows of the next texts and lets them wait."""
        now = time.monotonic()
        for _ in range(min(count, len(job.texts))):
            place = job.size - len(job.texts)
            try:
                row = self.rows(job.texts.pop())
            except Refused as refused:
                self._fail(job, refused)
                return
            if self.arguments.show_tokens_to_client:
                job.tokens.append(self.rows.tokens(row))
            job.longest = max(job.longest, len(row.input_ids))
            self.scheduler.add(Ticket(job, place, row, now))

    # --------------------------------------------------------------------- batches and workers

    def _ready_workers(self) -> list[Worker]:
        return [one for one in self.pool.workers if one.ready]

    def _dispatch(self) -> None:
        while self.scheduler.size:
            ready = self._ready_workers()
            idle = [one for one in ready if not one.sent]
            full = self.scheduler.has_full_batch()
            if idle:
                chosen = idle[0] if full or self._waited_enough() else None
            else:
                chosen = self._least_loaded(ready) if full else None
            if chosen is None:
                return
            if tickets := self.scheduler.take(max(1, len(idle))):
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

    def _handle(self, event: Event) -> None:
        one = event.worker
        if event.kind == worker.READY:
            self.vector_size, self.tensorflow_version = event.first, event.second
            print(f"worker {one.slot} is ready", flush=True)
        elif event.kind == DIED:
            for _, tickets in one.sent.values():
                self._retry(tickets)
            one.sent.clear()
            if self.pool.hopeless:
                self._give_up("no worker comes up; see the server's log")
        elif event.first is None:  # it could not load the model, and dies
            logging.error("worker %d: %s", one.slot, event.second)
            if self.vector_size is None:
                self._give_up(event.second)
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
            if vectors.ndim == 2:
                vectors = vectors[: len(ticket.row.input_ids)]
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

    def _give_up(self, why: str) -> None:
        self.failed = self.stopping = True
        for job in list(self._open):
            self._fail(job, Refused(FAILED, why))

    # ------------------------------------------------------------------------- answers out

    def _finish(self, job: Job, array: np.ndarray) -> None:
        self._end(job, protocol.vectors(job.request, array, job.tokens))
        self.statistics.answered("vectors", time.monotonic() - job.arrived)

    def _fail(self, job: Job, refused: Refused) -> None:
        if not job.ended:
            self._end(job, protocol.refusal(job.request, refused))
            self.statistics.answered(refused.kind)

    def _end(self, job: Job, frames: list[Any]) -> None:
        job.ended = True
        self._open.discard(job)
        self._texts -= job.size
        self._reserved -= self._outbox.send(frames, job.reserved)

    def _refuse(self, request: Request, refused: Refused) -> None:
        self.statistics.answered(refused.kind)
        self._outbox.send(protocol.refusal(request, refused))

    # ------------------------------------------------------------------------------ status

    def status(self, statistic: bool) -> dict[str, Any]:
        """What SHOW_CONFIG and SHOW_STATUS answer: bert-as-service's keys, and ours."""
        workers = self._ready_workers()
        shown = {
            **vars(self.arguments),
            "do_lower_case": self.rows.tokenizer.do_lower_case,
            "pooling_strategy": int(self.arguments.pooling_strategy),
            "port": self.ports[0],
            "port_out": self.ports[1],
            "num_labels": len(self.plan.labels) or self.arguments.num_labels,
            "tensorflow_version": self.tensorflow_version.split("."),
            "python_version": platform.python_version(),
            "server_version": SERVER_VERSION,
            "bert_tf_version": _VERSION,
            "pyzmq_version": zmq.pyzmq_version(),
            "zmq_version": zmq.zmq_version(),
            "server_start_time": time.ctime(self.statistics.started),
            "server_current_time": time.ctime(),
            "num_process": 1 + len(self.pool.workers),
            "num_concurrent_socket": 2,
            "ventilator -> worker": ["pipe"] * len(self.pool.workers),
            "worker -> sink": ["pipe"],
            "ventilator <-> sink": "same process",
            "ready": bool(workers) and not self.stopping,
            "task_type": self.plan.task_type,
            "labels": list(self.plan.labels),
        }
        if statistic:
            shown["statistic"] = self.statistics.original()
            shown["now"] = {
                **self.statistics.recent(),
                "waiting_texts": self.scheduler.size,
                "open_requests": len(self._open),
                "ready_workers": len(workers),
                "worker_restarts": self.pool.restarts,
                "unread_answers": bool(self._outbox),
            }
        return shown

    def _note_state(self) -> None:
        restarts = self.pool.restarts
        self.statistics.state(self.scheduler.size, len(self._ready_workers()), restarts)
