"""A request on its way: its texts become rows, rows wait, vectors come back one by one."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from bert_tf.serving.protocol import Request, Text
from bert_tf.serving.rows import Row


class Job:
    """A request for vectors.

    Attributes:
      texts: those that are no rows yet, the next one last.
      size: of its texts.
      bytes: of the request.
      small: whether it goes before large ones.
      cut: places of the texts that are longer than the model takes.
      ended: whether it was answered, be it with a refusal.
    """

    def __init__(self, request: Request, texts: list[Text], reserved: int, small: bool):
        self.request = request._replace(body=b"")  # which is not needed any more
        self.size, self.reserved, self.bytes = len(texts), reserved, len(request.body)
        self.small = small
        self.texts = texts[::-1]
        self.arrived = time.monotonic()
        self.tokens: list[list[str]] = []
        self.cut: list[int] = []
        self.longest = 0
        self.ended = False
        self._left = self.size
        self._vectors: np.ndarray | None = None  # [N, D]
        self._by_token: dict[int, np.ndarray] = {}  # of each text [tokens, D]

    def put(self, place: int, vectors: np.ndarray) -> None:
        """One text's vector [D], or its tokens' [F, D]."""
        if vectors.ndim == 2:
            self._by_token[place] = vectors
        else:
            if self._vectors is None:
                self._vectors = np.empty((self.size, len(vectors)), vectors.dtype)
            self._vectors[place] = vectors
        self._left -= 1

    @property
    def complete(self) -> bool:
        return not self._left

    def array(self, length: int | None) -> np.ndarray:
        """[N, D]; or [N, T, D], where T is `length` or that of the longest text."""
        if self._vectors is not None:
            return self._vectors
        first = self._by_token[0]
        shape = (self.size, length or self.longest, first.shape[-1])
        whole = np.zeros(shape, first.dtype)
        for place, vectors in self._by_token.items():
            whole[place, : len(vectors)] = vectors
        return whole


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """A row that waits: whose it is, its place there, and how often a worker died of it."""

    job: Job
    place: int
    row: Row
    arrived: float
    deaths: int = 0
