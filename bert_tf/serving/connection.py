"""What the clients do alike: sockets, frames, checks, errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import zmq

from bert_tf.serving import protocol
from bert_tf.serving.flags import SERVER_VERSION

TIMEOUT_MS = 60_000

Texts = list[str] | list[list[str]] | list[dict[str, str]]


class ServingError(RuntimeError):
    """What a server answered instead of vectors; `kind` is one of those in `protocol`."""

    def __init__(self, message: str, kind: str = protocol.FAILED):
        super().__init__(message)
        self.kind = kind


class ServerBusyError(ServingError):
    """Too much waits for it; the same request may do well later."""


class _Response(NamedTuple):
    id: int
    embedding: Any
    tokens: Any


class Response(_Response):
    """Vectors [N, D] or [N, T, D] of a request, and its texts' tokens, if the server shows them.

    It is a tuple of three, as in bert-as-service's client.

    Attributes:
      truncated: numbers of the texts that the server cut to its max_seq_len.
    """

    truncated: Sequence[int] = ()


class Connection:
    """A client's sockets."""

    def __init__(
        self, context: Any, ip: str, port: int, port_out: int, identity: bytes | str | None
    ):
        given = identity.encode() if isinstance(identity, str) else identity
        self.identity = given or str(uuid.uuid4()).encode()
        self.ip, self.port, self.port_out = ip, port, port_out
        self.sender, self.receiver = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        for socket, number in ((self.sender, port), (self.receiver, port_out)):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(f"tcp://{ip}:{number}")
        # Nothing is dropped here if it is not fetched at once.
        self.receiver.setsockopt(zmq.RCVHWM, 0)
        self.receiver.setsockopt(zmq.SUBSCRIBE, self.identity)
        self.request_id = 0

    def frames(self, body: bytes, count: int) -> list[bytes]:
        self.request_id += 1
        return [self.identity, body, b"%d" % self.request_id, b"%d" % count]

    def status(self, pending: Iterable[int], output_fmt: str, timeout: int) -> dict[str, Any]:
        """What bert-as-service's clients call their status."""
        return {
            "identity": self.identity,
            "num_request": self.request_id,
            "num_pending_request": len(set(pending)),
            "pending_request": set(pending),
            "output_fmt": output_fmt,
            "port": self.port,
            "port_out": self.port_out,
            "server_ip": self.ip,
            "client_version": SERVER_VERSION,
            "timeout": timeout,
        }

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def body_of(texts: Any, is_tokenized: bool) -> bytes:
    """The JSON of texts. Raises TypeError or ValueError for what no server takes."""
    if not isinstance(texts, list):
        raise TypeError(f"texts is {type(texts).__name__}; a list is expected")
    if not texts:
        raise ValueError("texts is empty; give one or more")
    kinds = (list,) if is_tokenized else (str, dict)
    for number, text in enumerate(texts):
        if not isinstance(text, kinds):
            raise TypeError(
                f"text {number} is {type(text).__name__}; expected "
                f"{'a list of tokens' if is_tokenized else 'a string'} "
                f"(is_tokenized={is_tokenized})"
            )
    return json.dumps(texts).encode()


def content_of(frames: list[bytes]) -> dict[str, Any]:
    """The answer to a command. Raises ServingError if it is a refusal."""
    content = json.loads(frames[1])
    if "error" in content:
        raise _error(content)
    return content


def vectors_of(frames: list[bytes], as_list: bool) -> Response:
    header = json.loads(frames[1])
    if "error" in header:
        raise _error(header)
    array = np.frombuffer(frames[2], header["dtype"]).reshape(header["shape"])
    embedding = array.tolist() if as_list else array
    response = Response(int(frames[-1]), embedding, header.get("tokens", ""))
    response.truncated = header.get("truncated", ())
    return response


def shown(response: Response, show_tokens: bool, show_truncated: bool) -> Any:
    """Return the vectors, or a tuple of them and what else is asked for."""
    more = [response.tokens] * show_tokens + [list(response.truncated)] * show_truncated
    return (response.embedding, *more) if more else response.embedding


def _error(header: dict[str, Any]) -> ServingError:
    kind = ServerBusyError if header.get("kind") == protocol.BUSY else ServingError
    return kind(header["error"], header.get("kind", protocol.FAILED))
