"""A client of the server: bert-as-service's API, with a timeout and errors.

    with BertClient() as client:
        client.encode(["First do it", "then do it right"])  # float32 [2, D]

It also talks to servers of bert-as-service 1.10 itself.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import zmq

from bert_tf.serving import protocol
from bert_tf.serving.connection import (
    TIMEOUT_MS,
    Connection,
    Response,
    ServingError,
    Texts,
    body_of,
    content_of,
    shown,
    vectors_of,
)
from bert_tf.serving.flags import SERVER_VERSION

_BATCHES_ON_THE_WAY = 16
_MAX_NUMBERS = 10  # of texts, in a warning


class BertClient:
    """A client of bert-as-service's protocol.

    Args:
      ip, port, port_out: where the server is.
      output_fmt: "ndarray" or "list".
      identity: what answers are subscribed to; clients with one identity get each other's.
      check_version, check_length, check_token_info: ask the server for its settings, refuse
        another version, warn of texts that it cuts, and of tokens that it does not show.
      timeout: milliseconds to wait for an answer; -1 for ever.

    Every method raises TimeoutError where no answer comes in time, ServerBusyError or another
    ServingError where it is a refusal. Not to be shared by threads; see `ConcurrentBertClient`.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 5555,
        port_out: int = 5556,
        output_fmt: str = "ndarray",
        show_server_config: bool = False,
        identity: bytes | str | None = None,
        check_version: bool = True,
        check_length: bool = True,
        check_token_info: bool = True,
        ignore_all_checks: bool = False,
        timeout: int = TIMEOUT_MS,
    ):
        if output_fmt not in ("ndarray", "list"):
            raise ValueError(f'output_fmt={output_fmt!r} must be "ndarray" or "list"')
        self.output_fmt, self.timeout = output_fmt, timeout
        self.ip, self.port, self.port_out = ip, port, port_out
        self._connection = Connection(zmq.Context.instance(), ip, port, port_out, identity)
        self.identity = self._connection.identity
        self._pending: dict[int, None] = {}  # asked and not fetched, in order
        self._arrived: dict[int, list[bytes]] = {}
        self.length_limit: int | None = None
        self._warns_of_cut = self._server_tells_cut = False
        self._shows_tokens = True
        if not ignore_all_checks and (
            check_version or check_length or check_token_info or show_server_config
        ):
            try:
                self._check(check_version, check_length, check_token_info, show_server_config)
            except BaseException:
                self.close()
                raise

    def _check(self, version: bool, length: bool, tokens: bool, show: bool) -> None:
        config = self.server_config
        if version and config["server_version"] != SERVER_VERSION:
            raise ServingError(
                f"the server speaks version {config['server_version']}, this client "
                f"{SERVER_VERSION}; check_version=False tries it all the same"
            )
        self.length_limit = config["max_seq_len"] if length else None
        self._warns_of_cut, self._server_tells_cut = length, "bert_tf_version" in config
        self._shows_tokens = bool(config["show_tokens_to_client"]) or not tokens
        if show:
            for name, value in config.items():
                print(f"{name:>30}\t=\t{value!s:<30}")

    def encode(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        show_truncated: bool = False,
    ) -> Any:
        """The vectors of texts, [N, D] or [N, T, D].

        Args:
          texts: strings, of which `a ||| b` is a pair; or objects of `text_a` and `text_b`; or
            lists of tokens, if `is_tokenized`.
          blocking: without it, returns None at once; `fetch` or `fetch_all` then.
          show_tokens: returns (vectors, tokens).
          show_truncated: returns the numbers of the texts that the server cut, as the last.
        """
        body = body_of(texts, is_tokenized)
        self._warn(texts, show_tokens)
        number = self._send(body, len(texts))
        if not blocking:
            return None
        return shown(self._response(number), show_tokens, show_truncated)

    def fetch(self, delay: float = 0.0) -> Iterator[Response]:
        """Answers to what was sent without blocking, as they come."""
        time.sleep(delay)
        while self._pending:
            number = next((n for n in self._pending if n in self._arrived), None)
            yield self._response(self._wait(None) if number is None else number)

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """All of them: a list of vectors, or one array, or list of rows, of all."""
        responses = list(self.fetch())
        if sort:
            responses.sort(key=lambda response: response.id)
        found = [response.embedding for response in responses]
        if not concat or not found:
            return found
        if self.output_fmt == "list":
            return [row for rows in found for row in rows]
        return np.concatenate(found)

    def encode_async(
        self,
        batch_generator: Iterable[Texts],
        max_num_batch: int | None = None,
        delay: float = 0.1,
        **kwargs: Any,
    ) -> Iterator[Response]:
        """Answers to all batches of a generator, as they come, while it goes on making them.

        `delay`, which bert-as-service's client sleeps for, is not needed. A few batches are on
        their way at a time.
        """
        del delay
        for number, texts in enumerate(batch_generator):
            if number == max_num_batch:
                break
            self.encode(texts, blocking=False, **kwargs)
            if len(self._pending) >= _BATCHES_ON_THE_WAY:
                yield self._response(self._wait(None))
        yield from self.fetch()

    @property
    def server_config(self) -> dict[str, Any]:
        """The server's settings."""
        return self._command(protocol.SHOW_CONFIG)

    @property
    def server_status(self) -> dict[str, Any]:
        """The same, with what it has done so far."""
        return self._command(protocol.SHOW_STATUS)

    @property
    def status(self) -> dict[str, Any]:
        """Of this client."""
        return self._connection.status(self._pending, self.output_fmt, self.timeout)

    def terminate(self) -> None:
        """Ends the server, if that was started with -allow_remote_terminate."""
        self._command(protocol.TERMINATION)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> BertClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _command(self, body: bytes) -> dict[str, Any]:
        return content_of(self._take(self._send(body, 0)))

    def _send(self, body: bytes, count: int) -> int:
        frames = self._connection.frames(body, count)
        number = self._connection.request_id
        sender = self._connection.sender
        if not sender.poll(None if self.timeout < 0 else self.timeout, zmq.POLLOUT):
            raise TimeoutError(self._silence())
        sender.send_multipart(frames)
        self._pending[number] = None
        return number

    def _response(self, number: int) -> Response:
        response = vectors_of(self._take(number), self.output_fmt == "list")
        if response.truncated and self._warns_of_cut:
            numbers = ", ".join(map(str, response.truncated[:_MAX_NUMBERS]))
            more = ", ..." if len(response.truncated) > _MAX_NUMBERS else ""
            warnings.warn(
                f"the server cut {len(response.truncated)} text(s) to its "
                f"max_seq_len={self.length_limit or 'NONE'}: {numbers}{more}",
                stacklevel=3,
            )
        return response

    def _take(self, number: int) -> list[bytes]:
        try:
            self._wait(number)
        finally:
            self._pending.pop(number, None)
        return self._arrived.pop(number)

    def _wait(self, number: int | None) -> int:
        """Receives until an answer is there: to `number`, or to any request."""
        end = None if self.timeout < 0 else time.monotonic() + self.timeout / 1000
        receiver = self._connection.receiver
        while number not in self._arrived:
            left = None if end is None else max(0.0, 1000 * (end - time.monotonic()))
            if not receiver.poll(left):
                raise TimeoutError(self._silence())
            frames = receiver.recv_multipart()
            came = int(frames[-1])
            if came in self._pending:  # else one that was given up, or another client's
                self._arrived[came] = frames
                number = came if number is None else number
        return number

    def _silence(self) -> str:
        return (
            f"no answer from {self.ip}:{self.port} (results from {self.port_out}) within "
            f"{self.timeout} ms; is the server up, are the ports right, is timeout= too small?"
        )

    def _warn(self, texts: Texts, show_tokens: bool) -> None:
        limit = self.length_limit
        words = [t if isinstance(t, list) else t.split() for t in texts if not isinstance(t, dict)]
        guessed = limit is not None and any(len(text) > limit for text in words)
        if guessed and not self._server_tells_cut:
            warnings.warn(
                f"some texts are longer than the server's max_seq_len={limit} and will be cut",
                stacklevel=3,
            )
        if show_tokens and not self._shows_tokens:
            warnings.warn(
                "the server does not show tokens; start it with -show_tokens_to_client",
                stacklevel=3,
            )


class ConcurrentBertClient:
    """A pool of clients for threads: each call takes a free one, or waits for it."""

    def __init__(self, max_concurrency: int = 10, **kwargs: Any):
        self.max_concurrency = max_concurrency
        self._free = [BertClient(**kwargs) for _ in range(max_concurrency)]
        self._some = threading.Condition()

    def encode(self, texts: Texts, **kwargs: Any) -> Any:
        """As `BertClient.encode`, blocking."""
        return self._with_client(lambda client: client.encode(texts, **kwargs))

    @property
    def server_config(self) -> dict[str, Any]:
        return self._with_client(lambda client: client.server_config)

    @property
    def server_status(self) -> dict[str, Any]:
        return self._with_client(lambda client: client.server_status)

    @property
    def status(self) -> dict[str, Any]:
        """Of one of its clients."""
        return self._with_client(lambda client: client.status)

    def close(self) -> None:
        for client in self._free:
            client.close()

    def __enter__(self) -> ConcurrentBertClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _with_client(self, run: Any) -> Any:
        with self._some:
            self._some.wait_for(lambda: self._free)
            client = self._free.pop()
        try:
            return run(client)
        finally:
            with self._some:
                self._free.append(client)
                self._some.notify()
