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
from bert_tf.serving import protocol
from bert_tf.serving.assets import Plan
from bert_tf.serving.dispatcher import Dispatcher
from bert_tf.serving.flags import SERVER_VERSION, PoolingStrategy
from bert_tf.serving.http_process import HttpProcess
from bert_tf.serving.jobs import Job, Ticket
from bert_tf.serving.outbox import Outbox
from bert_tf.serving.protocol import BAD_REQUEST, BUSY, FAILED, STOPPING, Refused, Request
from bert_tf.serving.rows import RowMaker
from bert_tf.serving.statistics import Statistics

_VERSION = importlib.metadata.version("bert_tf")
_MESSAGES_A_TURN = 64
_TEXTS_A_TURN = 64  # that are tokenized before the sockets are looked at again
_POLL_MS, _ENDING_MS, _RETRY_MS = 1000, 20, 2
_MAX_REQUEST_BYTES = 256 << 20  # of all requests that are not answered yet, together
_MAX_ANSWER_BYTES = 2 << 30  # of all requests that are not answered yet, together
_LAST_SECONDS = 10.0  # in which a client may still take its answer, when all are computed
_NO_SECONDS = 1.0  # the same, when nothing could be computed yet
_UNREAD_REQUESTS = 64  # that ZeroMQ holds for one client


class Server:
    """A bert-as-service server.

    Raises:
      zmq.ZMQError, ValueError: a port is taken.
    """

    def __init__(self, plan: Plan, tokenizer: Tokenizer):
        self.plan, self.arguments = plan, plan.arguments
        self.rows = RowMaker(plan, tokenizer)
        self.statistics = Statistics()
        self.dispatcher = Dispatcher(plan, self.statistics, self._finish, self._fail)
        self.stopping = False
        self._admitted: deque[Job] = deque()  # with texts that are no rows yet
        self._open: set[Job] = set()
        self._texts = self._bytes = self._reserved = 0
        self._computed_at: float | None = None  # when all was computed, at the end
        context: Any = zmq.Context()
        self._context = context
        self._inbox = context.socket(zmq.PULL)
        self._inbox.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
        self._inbox.setsockopt(zmq.RCVHWM, _UNREAD_REQUESTS)
        self._inbox.bind(f"tcp://{self.arguments.bind}:{self.arguments.port}")
        address = f"tcp://{self.arguments.bind}:{self.arguments.port_out}"
        self._outbox = Outbox(context, address)
        self.ports = _port_of(self._inbox), _port_of(self._outbox.socket)
        self._poller = zmq.Poller()
        for socket in (self._inbox, self._outbox.socket, self.dispatcher.pool.fileno()):
            self._poller.register(socket, zmq.POLLIN)
        asked = self.arguments.http_port is not None
        self.http = HttpProcess(plan, self.ports) if asked else None

    # ---------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Serves until `stop` is called and all that was accepted is answered."""
        try:
            while not self._over(now := time.monotonic()):
                self.dispatcher.pool.tend(now)
                if self.http is not None:
                    self.http.tend(now)
                self._poller.poll(int(self._timeout(now)))
                self._outbox.subscriptions()
                self._receive()
                self.dispatcher.collect()
                self._tokenize()
                self.dispatcher.dispatch()
                self._reserved -= self._outbox.tend(time.monotonic())
        finally:
            self._inbox.close(0)
            self._outbox.socket.close()  # which lingers, until the context is terminated
            if self.http is not None:
                self.http.kill()
            self.dispatcher.pool.stop()
            self._context.term()

    def _over(self, now: float) -> bool:
        """Whether the server is to end and has nothing left to do, or nobody takes it."""
        if self.failed:
            self.stopping = True
            for job in list(self._open):
                self._fail(job, Refused(FAILED, str(self.dispatcher.failure)))
        loaded = self.dispatcher.vector_size is not None
        if self.stopping and not loaded:
            for job in list(self._open):
                self._fail(job, Refused(STOPPING, "the server ends before it has loaded its model"))
        if self.stopping and self.http is not None:
            self.http.stop()
        if not self.stopping or self._open:
            self._computed_at = None
            return False
        self._computed_at = self._computed_at or now
        taken = not self._outbox and not (self.http is not None and self.http.alive)
        return taken or now - self._computed_at > (_LAST_SECONDS if loaded else _NO_SECONDS)

    @property
    def failed(self) -> bool:
        """Whether no worker comes up."""
        return self.dispatcher.failure is not None

    def stop(self) -> None:
        """Takes no more texts, and lets `run` end when the accepted ones are answered."""
        self.stopping = True
        self.dispatcher.pool.wake()

    def kill(self) -> None:
        """End all processes that it started, at once."""
        self.dispatcher.pool.kill()
        if self.http is not None:
            self.http.kill()

    def _timeout(self, now: float) -> float:
        """Milliseconds until there is something to do without a message."""
        if self._admitted:
            return 0
        timeout = _RETRY_MS if self._outbox else _ENDING_MS if self.stopping else _POLL_MS
        patience = self.dispatcher.patience(now)
        return timeout if patience is None else min(timeout, patience)

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
            self._outbox.asked(request)
            try:
                if request.body in protocol.COMMANDS:
                    self.statistics.request(request.identity, "system")
                    self._outbox.send(protocol.answer(request, self._command(request.body)))
                else:
                    self._accept(request)
            except Refused as refused:
                self._refuse(request, refused)
            except Exception as error:  # noqa: BLE001, whatever somebody sent, the server goes on
                logging.exception("a request failed")
                self._refuse(request, Refused(FAILED, f"{type(error).__name__}: {error}"))

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
        # What somebody asked over HTTP before the end is still on its way.
        http = self.http
        asked_before = http is not None and http.alive and request.identity == http.identity
        if self.stopping and (self.failed or not asked_before):
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
        if self._bytes + len(request.body) > _MAX_REQUEST_BYTES:
            raise Refused(
                BUSY, f"the server is busy: {self._bytes >> 20} MB of texts wait; try again later"
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
        self._bytes += job.bytes
        self._reserved += reserved
        if not texts:
            self._finish(job, np.empty((0, self.dispatcher.vector_size or 0), np.float32))
        elif job.small:
            self._admit(job, job.size)
        else:
            self._admitted.append(job)

    @property
    def _row_bytes(self) -> int:
        """Of the answer, for one text; at most."""
        most = 2 * self.plan.config.hidden_size * len(self.arguments.pooling_layer)
        size = self.dispatcher.vector_size or most
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
            if row.cut:
                job.cut.append(place)
            job.longest = max(job.longest, len(row.input_ids))
            self.dispatcher.scheduler.add(Ticket(job, place, row, now))

    # ------------------------------------------------------------------------- answers out

    def _finish(self, job: Job, array: np.ndarray) -> None:
        self._end(job, protocol.vectors(job.request, array, job.tokens, job.cut))
        self.statistics.answered("vectors", time.monotonic() - job.arrived, len(job.cut))

    def _fail(self, job: Job, refused: Refused) -> None:
        if not job.ended:
            self._end(job, protocol.refusal(job.request, refused))
            self.statistics.answered(refused.kind)

    def _end(self, job: Job, frames: list[Any]) -> None:
        job.ended = True
        self._open.discard(job)
        self._texts -= job.size
        self._bytes -= job.bytes
        self._reserved -= self._outbox.send(frames, job.reserved)

    def _refuse(self, request: Request, refused: Refused) -> None:
        self.statistics.answered(refused.kind)
        self._outbox.send(protocol.refusal(request, refused))

    # ------------------------------------------------------------------------------ status

    def status(self, statistic: bool) -> dict[str, Any]:
        """What SHOW_CONFIG and SHOW_STATUS answer: bert-as-service's keys, and ours."""
        workers, pool = self.dispatcher.ready_workers(), self.dispatcher.pool
        shown = {
            **vars(self.arguments),
            "do_lower_case": self.rows.tokenizer.do_lower_case,
            "pooling_strategy": int(self.arguments.pooling_strategy),
            "port": self.ports[0],
            "port_out": self.ports[1],
            "http_port": self.http and self.http.port,
            "num_labels": len(self.plan.labels) or self.arguments.num_labels,
            "tensorflow_version": self.dispatcher.tensorflow_version.split("."),
            "python_version": platform.python_version(),
            "server_version": SERVER_VERSION,
            "bert_tf_version": _VERSION,
            "pyzmq_version": zmq.pyzmq_version(),
            "zmq_version": zmq.zmq_version(),
            "server_start_time": time.ctime(self.statistics.started),
            "server_current_time": time.ctime(),
            "num_process": 1 + len(pool.workers) + (self.http is not None),
            "num_concurrent_socket": 2,
            "ventilator -> worker": ["pipe"] * len(pool.workers),
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
                "waiting_texts": self.dispatcher.scheduler.size,
                "open_requests": len(self._open),
                "ready_workers": len(workers),
                "worker_restarts": pool.restarts,
                "unread_answers": bool(self._outbox),
            }
        return shown

    def _note_state(self) -> None:
        ready, restarts = len(self.dispatcher.ready_workers()), self.dispatcher.pool.restarts
        self.statistics.state(self.dispatcher.scheduler.size, ready, restarts)


def _port_of(socket: Any) -> int:
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
