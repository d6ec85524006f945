"""Which waiting rows make the next batch: across requests, of like length, the oldest first.

A batch of B rows, padded to F tokens, takes about as long as a few tokens and B * F more: from
some hundred tokens on no size is faster than another, so that batches are kept small, for the sake
of those who wait, and padding low.
"""

from __future__ import annotations

from collections import deque

from bert_tf.serving.jobs import Ticket

WORTH_TOKENS = 512  # of a batch that makes good use of a worker
MAX_TOKENS, MAX_TOKENS_ON_GPU = 1024, 16384  # of a batch
_SMALLEST_SHARE = 48  # tokens; fewer are not split among idle workers
_BULK_TURN = 4  # every so many batches begin with a large request, if one waits
# A shorter row joins a batch as long as all its padding takes no longer than one more batch.
_PADDING, _SPARE_TOKENS = 0.03, 12
_SUSPECT = 2  # workers that died of a row, before it has to go alone

_Queues = dict[int, deque[Ticket]]  # rows by their length


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
        """Lets a row wait; `again`, before all others of its length."""
        queues = self._small if ticket.job.small else self._bulk
        length = len(ticket.row.input_ids)
        queue = queues.setdefault(length, deque())
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
        length = min(queues, key=lambda n: queues[n][0].arrived)
        if queues[length][0].deaths >= _SUSPECT:
            return self._pop(queues, length)
        share = max(_SMALLEST_SHARE, self.tokens / max(1, idle))
        most = min(self.max_tokens, max(min(WORTH_TOKENS, share), self.tokens / (2 * workers)))
        taken: list[Ticket] = []
        tokens = 0
        for shorter in sorted({n for n in queues.keys() | others.keys() if n <= length})[::-1]:
            for source in (queues, others):
                while shorter in source and source[shorter][0].deaths < _SUSPECT:
                    padding = (len(taken) + 1) * length - (tokens + shorter)
                    if padding > _PADDING * tokens + _SPARE_TOKENS:
                        return taken
                    if taken and (tokens + shorter > most or len(taken) == self.max_rows):
                        return taken
                    popped = self._pop(source, shorter)
                    tokens += shorter if popped else 0
                    taken += popped
        return taken

    def _next_queues(self) -> _Queues:
        self._turn += bool(self._bulk)
        bulk = self._bulk and (not self._small or self._turn % _BULK_TURN == 0)
        return self._bulk if bulk else self._small

    def _pop(self, queues: _Queues, length: int) -> list[Ticket]:
        queue = queues[length]
        ticket = queue.popleft()
        if not queue:
            del queues[length]
        self.size -= 1
        self.tokens -= length
        return [] if ticket.job.ended else [ticket]
