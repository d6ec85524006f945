"""Which waiting rows make the next batch: across requests, of like length, the oldest first.

Short rows share lines (`rows.features`): unlike rows cost little padding, but attention over
whole lines. So rows of like length come first, others where those are too few. From some hundred
tokens on no batch is faster than another, so that batches are kept small, for the sake of those who
wait.
"""

from __future__ import annotations

from collections import deque

from bert_tf.serving.jobs import Ticket

WORTH_TOKENS = 512  # of a batch that makes good use of a worker
MAX_TOKENS, MAX_TOKENS_ON_GPU = 1024, 16384  # of a batch
_SMALLEST_SHARE = 48  # tokens; fewer are not split among idle workers
_BULK_TURN = 4  # every so many batches begin with a large request, if one waits
_SHORT = 32  # tokens; rows of so many and fewer are alike
_SUSPECT = 2  # workers that died of a row, before it has to go alone

_Queues = dict[int, deque[Ticket]]  # rows by the power of two that holds them


class Scheduler:
    """The waiting rows, by urgency and length.

    Attributes:
      size, tokens: of the waiting rows.
      max_tokens: of a batch, padding not counted.
    """

    def __init__(self, max_rows: int, max_tokens: int = MAX_TOKENS):
        self.max_rows, self.max_tokens = max_rows, max_tokens
        self.size = self.tokens = 0
        self._small: _Queues = {}  # rows of small requests
        self._bulk: _Queues = {}
        self._turn = 0

    def add(self, ticket: Ticket, again: bool = False) -> None:
        """Lets a row wait; `again`, before all others of like length."""
        queues = self._small if ticket.job.small else self._bulk
        length = len(ticket.row.input_ids)
        queue = queues.setdefault(_bucket(length), deque())
        if again:
            queue.appendleft(ticket)
        else:
            queue.append(ticket)
        self.size += 1
        self.tokens += length

    def waiting_since(self) -> float | None:
        """When the row came that waits longest; None if none does."""
        queues = [*self._small.values(), *self._bulk.values()]
        return min((queue[0].arrived for queue in queues), default=None)

    def is_worth_a_batch(self) -> bool:
        """Whether waiting for more rows would make no better batch."""
        return self.tokens >= WORTH_TOKENS or self.size >= self.max_rows

    def take(self, workers: int = 1, idle: int = 1) -> list[Ticket]:
        """The next batch, for one of so many workers; few rows are shared out among the idle ones.

        Rows of requests that have ended are dropped, so that there may be none.
        """
        queues = self._next_queues()
        others = self._bulk if queues is self._small else self._small
        oldest = min(queues, key=lambda n: queues[n][0].arrived)
        if queues[oldest][0].deaths >= _SUSPECT:
            return self._pop(queues, oldest)
        share = max(_SMALLEST_SHARE, self.tokens / max(1, idle))
        most = min(self.max_tokens, max(min(WORTH_TOKENS, share), self.tokens / (2 * workers)))
        taken: list[Ticket] = []
        tokens = 0
        for source in (queues, others):
            for bucket in sorted(source, key=lambda n: (n > oldest, abs(n - oldest))):
                while bucket in source and source[bucket][0].deaths < _SUSPECT:
                    length = len(source[bucket][0].row.input_ids)
                    if taken and (tokens + length > most or len(taken) == self.max_rows):
                        return taken
                    popped = self._pop(source, bucket)
                    tokens += length if popped else 0
                    taken += popped
        return taken

    def _next_queues(self) -> _Queues:
        self._turn += bool(self._bulk)
        bulk = self._bulk and (not self._small or self._turn % _BULK_TURN == 0)
        return self._bulk if bulk else self._small

    def _pop(self, queues: _Queues, bucket: int) -> list[Ticket]:
        queue = queues[bucket]
        ticket = queue.popleft()
        if not queue:
            del queues[bucket]
        self.size -= 1
        self.tokens -= len(ticket.row.input_ids)
        return [] if ticket.job.ended else [ticket]


def _bucket(length: int) -> int:
    return max(_SHORT, 1 << (length - 1).bit_length())
