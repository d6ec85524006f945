"""Which waiting rows make the next batch: across requests, of like length, the oldest first."""

from __future__ import annotations

from collections import deque

from bert_tf.serving.jobs import Ticket

MAX_TOKENS = 8192  # of a batch, padding included: beyond, a batch is no faster and latency grows
_SMALLEST_SHARE = 4  # rows; fewer are not split among idle workers
_BULK_TURN = 4  # every so many batches begin with a large request, if one waits
# Shorter rows join a batch as long as padding stays below a quarter and a few tokens.
_PADDING, _SPARE_TOKENS = 1.25, 64
_SUSPECT = 2  # workers that died of a row, before it has to go alone


class Scheduler:
    """The waiting rows, by urgency and length."""

    def __init__(self, max_rows: int, max_tokens: int = MAX_TOKENS):
        self.max_rows, self.max_tokens = max_rows, max_tokens
        self.size = 0
        # Rows of small requests, and of large ones; each by the length they are padded to.
        self._small: dict[int, deque[Ticket]] = {}
        self._bulk: dict[int, deque[Ticket]] = {}
        self._turn = 0

    def add(self, ticket: Ticket, again: bool = False) -> None:
        """Lets a row wait; `again`, before all others of its length."""
        queues = self._small if ticket.job.small else self._bulk
        queue = queues.setdefault(_padded(len(ticket.row.input_ids)), deque())
        if again:
            queue.appendleft(ticket)
        else:
            queue.append(ticket)
        self.size += 1

    def waiting_since(self) -> float | None:
        """When the row came that waits longest; None if none does."""
        queues = [*self._small.values(), *self._bulk.values()]
        return min((queue[0].arrived for queue in queues if queue), default=None)

    def has_full_batch(self) -> bool:
        """Whether rows of one length fill a batch."""
        lengths = self._small.keys() | self._bulk.keys()
        return any(
            sum(len(queues.get(n, ())) for queues in (self._small, self._bulk)) >= self._most(n)
            for n in lengths
        )

    def take(self, idle_workers: int = 1) -> list[Ticket]:
        """The next batch; few rows are shared out among the idle workers.

        Rows of requests that have ended are dropped, so that there may be none.
        """
        queues = self._next_queues()
        length = min(
            (n for n, queue in queues.items() if queue), key=lambda n: queues[n][0].arrived
        )
        if queues[length][0].deaths >= _SUSPECT:
            return self._pop(queues, length)
        share = max(_SMALLEST_SHARE, -(-self.size // idle_workers))
        most = min(self._most(length), share)
        taken: list[Ticket] = []
        tokens = 0
        others = self._bulk if queues is self._small else self._small
        for shorter in sorted({n for n in queues.keys() | others.keys() if n <= length})[::-1]:
            for source in (queues, others):
                while (queue := source.get(shorter)) and len(taken) < most:
                    size = len(queue[0].row.input_ids)
                    padded = (len(taken) + 1) * length
                    if padded > _PADDING * (tokens + size) + _SPARE_TOKENS and taken:
                        return taken
                    if queue[0].deaths >= _SUSPECT:
                        break
                    popped = self._pop(source, shorter)
                    tokens += size if popped else 0
                    taken += popped
        return taken

    def _next_queues(self) -> dict[int, deque[Ticket]]:
        small, bulk = (any(queues.values()) for queues in (self._small, self._bulk))
        self._turn += bulk
        return self._bulk if bulk and (not small or self._turn % _BULK_TURN == 0) else self._small

    def _pop(self, queues: dict[int, deque[Ticket]], length: int) -> list[Ticket]:
        queue = queues[length]
        ticket = queue.popleft()
        if not queue:
            del queues[length]
        self.size -= 1
        return [] if ticket.job.ended else [ticket]

    def _most(self, length: int) -> int:
        return min(self.max_rows, max(1, self.max_tokens // length))


def _padded(length: int) -> int:
    """The length of the queue that a row waits in."""
    step = 4 if length <= 32 else 16 if length <= 128 else 64
    return -(-length // step) * step
