"""What one client of the HTTP server may cost the others: memory, and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from bert_tf.serving import protocol
from bert_tf.serving.protocol import BUSY, Refused

TOO_LARGE, TOO_SLOW = "too_large", "too_slow"

_MAX_HELD = 512 << 20  # bytes, of all requests and answers that are held at a time
_PIECE = 1 << 20  # bytes of an answer that are sent at a time
_PATIENCE = 30.0  # seconds for the next bytes from or to a client


class Budget:
    """The bytes that all requests hold, of what may be held."""

    def __init__(self) -> None:
        self.held = 0

    def hold(self) -> Hold:
        """What one request holds, which is nothing at first."""
        return Hold(self)


class Hold:
    """What one request holds."""

    def __init__(self, budget: Budget):
        self._budget, self._bytes = budget, 0

    def take(self, count: int) -> None:
        """Raises Refused where that is too much."""
        self._bytes += count
        self._budget.held += count
        if self._budget.held > _MAX_HELD:
            raise Refused(BUSY, "the server is busy: it holds too many requests and answers")

    def release(self) -> None:
        self._budget.held -= self._bytes
        self._bytes = 0


async def body(request: Request, hold: Hold) -> bytes:
    """All of it. Raises Refused if it is too large, or does not come."""
    found = bytearray()
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(_PATIENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return bytes(found)
        except TimeoutError:
            raise Refused(TOO_SLOW, f"no more of the request came for {_PATIENCE:.0f} s") from None
        found += chunk
        hold.take(len(chunk))
        if len(found) > protocol.MAX_MESSAGE_BYTES:
            limit = protocol.MAX_MESSAGE_BYTES >> 20
            raise Refused(TOO_LARGE, f"the request has more than {limit} MB")


class Answer(StreamingResponse):
    """JSON that is sent piece by piece, the next one when the client took the last."""

    def __init__(self, content: bytes, hold: Hold):
        super().__init__(_pieces(content), media_type="application/json")
        self._hold = hold

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # also when the client went before the first piece
            self._hold.release()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]


class Patient:
    """An ASGI application that gives up a client which does not take its answer."""

    def __init__(self, application: Any):
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def patient_send(message: Any) -> None:
            async with asyncio.timeout(_PATIENCE):
                await send(message)

        await self._application(scope, receive, patient_send)
