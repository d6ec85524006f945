"""The frames of bert-as-service: what clients send, and what they are answered.

A request has four frames: identity, body, request id, number of texts (the last two in decimal).
The body is SHOW_CONFIG, SHOW_STATUS, TERMINATION or JSON: a list of texts, of lists of tokens, or
(ours) of objects `{"text_a": ..., "text_b": ...}`. Answers go to whoever subscribed to the
identity: identity, JSON, request id to a command; identity, header, array, request id to texts.

A refusal is a header without an array, whose "error" says why. Its "dtype" does so too: this
makes a client that knows of no errors raise `TypeError: data type '<why>' not understood`,
instead of waiting or taking something else for vectors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_tf.data.sentence_lines import split_pair

SHOW_CONFIG, SHOW_STATUS, TERMINATION = b"SHOW_CONFIG", b"SHOW_STATUS", b"TERMINATION"
SHOW_METRICS = b"SHOW_METRICS"  # ours: {"metrics": Prometheus's text}
COMMANDS = (SHOW_CONFIG, SHOW_STATUS, SHOW_METRICS, TERMINATION)

MAX_MESSAGE_BYTES = 64 << 20  # of a frame; more ends the connection
_MAX_IDENTITY_BYTES = 256
_MAX_DIGITS = 18

BUSY, BAD_REQUEST, FAILED, STOPPING = "busy", "bad_request", "failed", "stopping"

# One text, as (text_a, text_b) or as its tokens.
Text = tuple[str, str | None] | list[str]


class Request(NamedTuple):
    """Four frames that can be answered."""

    identity: bytes
    body: bytes
    request_id: bytes


class Refused(Exception):
    """Why a request is not done: a kind, for programs, and words."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def parse(frames: Sequence[bytes]) -> Request | None:
    """The request in a message, or None if there is nobody to answer."""
    if len(frames) != 4:
        return None
    identity, body, request_id, count = frames
    digits = all(x.isdigit() and len(x) <= _MAX_DIGITS for x in (request_id, count))
    if not digits or not 0 < len(identity) <= _MAX_IDENTITY_BYTES:
        return None
    return Request(identity, body, request_id)


def parse_texts(body: bytes) -> list[Text]:
    """The texts of a body. Raises Refused if that is not what it holds."""
    try:
        texts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_REQUEST, f"the request is no JSON: {str(error)[:80]}") from None
    if not isinstance(texts, list):
        raise Refused(BAD_REQUEST, "the request is no JSON list of texts")
    if texts and all(isinstance(text, list) for text in texts):
        for number, tokens in enumerate(texts):
            if not all(isinstance(token, str) for token in tokens):
                raise Refused(BAD_REQUEST, f"text {number} has a token that is no string")
        return texts
    return [_text(number, text) for number, text in enumerate(texts)]


def _text(number: int, text: Any) -> Text:
    if isinstance(text, str):
        return split_pair(text)
    if isinstance(text, dict) and text.keys() <= {"text_a", "text_b"}:
        text_a, text_b = text.get("text_a"), text.get("text_b")
        if isinstance(text_a, str) and (text_b is None or isinstance(text_b, str)):
            return text_a, text_b
    raise Refused(
        BAD_REQUEST,
        f"text {number} is {type(text).__name__}; expected a string or an object of text_a and "
        "text_b, or for all texts lists of tokens",
    )


def answer(request: Request, content: dict[str, Any]) -> list[Any]:
    """The frames that answer a command."""
    return [topic(request.identity), json.dumps(content).encode(), request.request_id]


def vectors(
    request: Request, array: np.ndarray, tokens: list[list[str]] | None, cut: Sequence[int] = ()
) -> list[Any]:
    """The frames that carry an array, in C order.

    The header says which texts were cut, if some were; bert-as-service's clients ignore it.
    """
    header: dict[str, Any] = {"dtype": str(array.dtype), "shape": array.shape}
    header["tokens"] = tokens or ""
    if cut:
        header["truncated"] = list(cut)
    data = np.ascontiguousarray(array).data.cast("B") if array.size else b""
    return [topic(request.identity), json.dumps(header).encode(), data, request.request_id]


def refusal(request: Request, refused: Refused) -> list[Any]:
    """The frames that say why there is no array, or no answer to a command."""
    message = str(refused).encode("ascii", "replace").decode()
    # A comma would make a list of types of it.
    dtype = f"error: {message}".replace(",", ";")
    header = {"dtype": dtype, "shape": [0], "tokens": "", "error": str(refused)}
    header["kind"] = refused.kind
    if request.body in COMMANDS:
        return answer(request, header)
    return [topic(request.identity), json.dumps(header).encode(), b"", request.request_id]


def topic(identity: bytes) -> bytes:
    """What an answer is published under; a subscription to `identity` is made one to this.

    A subscription covers all topics that begin with it: with an end to it, that of a stranger to
    "" or "a" does not cover what is sent to others.
    """
    return identity + b"\0"


def private_topic(identity: bytes) -> bytes:
    """The name for what one of several subscribers to `identity` gets alone.

    Its client takes it, since it begins with the identity. No subscription to `topic` covers it.
    """
    return identity + b"\1"
