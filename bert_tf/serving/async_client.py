"""The client for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq.asyncio

from bert_tf.serving import protocol
from bert_tf.serving.connection import (
    TIMEOUT_MS,
    Connection,
    Texts,
    body_of,
    content_of,
    shown,
    vectors_of,
)


class AsyncBertClient:
    """`BertClient` for asyncio: any number of requests on the way over one connection.

    `timeout` is in milliseconds; errors are those of `BertClient`.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 5555,
        port_out: int = 5556,
        identity: bytes | str | None = None,
        timeout: int = TIMEOUT_MS,
    ):
        self.timeout = timeout
        self._context = zmq.asyncio.Context()
        self._connection = Connection(self._context, ip, port, port_out, identity)
        self.identity = self._connection.identity
        self._waiting: dict[int, asyncio.Future[list[bytes]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def encode(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        show_truncated: bool = False,
    ) -> Any:
        """Return what `BertClient.encode` returns."""
        response = vectors_of(await self._ask(body_of(texts, is_tokenized), len(texts)), False)
        return shown(response, show_tokens, show_truncated)

    async def server_config(self) -> dict[str, Any]:
        return await self.command(protocol.SHOW_CONFIG)

    async def server_status(self) -> dict[str, Any]:
        return await self.command(protocol.SHOW_STATUS)

    @property
    def status(self) -> dict[str, Any]:
        """Of this client."""
        return self._connection.status(self._waiting, "ndarray", self.timeout)

    async def command(self, body: bytes) -> dict[str, Any]:
        """What a server answers to one of `protocol.COMMANDS`."""
        return content_of(await self._ask(body, 0))

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        self._connection.close()
        self._context.term()

    async def __aenter__(self) -> AsyncBertClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _ask(self, body: bytes, count: int) -> list[bytes]:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        frames = self._connection.frames(body, count)
        number = self._connection.request_id
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None if self.timeout < 0 else self.timeout / 1000):
                await self._connection.sender.send_multipart(frames)
                return await answer
        except TimeoutError:
            raise TimeoutError(f"no answer from the server within {self.timeout} ms") from None
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        while True:
            frames = await self._connection.receiver.recv_multipart()
            answer = self._waiting.get(int(frames[-1]))
            if answer is not None and not answer.done():
                answer.set_result(frames)
