"""HTTP for the server: bert-as-service's routes, TF Serving's, and those of a cluster's probes.

It is a client of the server, so that its requests share batches with those of all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import resources
from typing import Any

import numpy as np
import orjson
import prometheus_client
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from bert_tf.serving import protocol, rest
from bert_tf.serving.assets import Plan
from bert_tf.serving.async_client import AsyncBertClient
from bert_tf.serving.connection import ServingError, Texts, body_of
from bert_tf.serving.protocol import BAD_REQUEST, BUSY, STOPPING, Refused

_MAX_BODIES = 256 << 20  # bytes, of all requests that are held at a time
_MAX_VECTORS = 128 << 20  # bytes of an answer, which are about three times as many in JSON
_MAX_CONNECTIONS = 1000
_PROBE_SECONDS = 5.0
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
_PAGE_POLICY += "connect-src 'self'"
_HTTP = {BAD_REQUEST: 400, BUSY: 503, STOPPING: 503, "too_large": 413, "not_found": 404}


def main(connection: Any, sock: Any, plan: Plan, ports: tuple[int, int]) -> None:
    """Answers until the server says "stop", and ends at once when the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it, in order
    settings = uvicorn.Config(
        HttpApp(plan, ports).application(),
        log_level="info" if plan.arguments.verbose else "warning",
        limit_concurrency=_MAX_CONNECTIONS,
        server_header=False,
        lifespan="on",
    )
    server = uvicorn.Server(settings)
    serving = threading.Thread(target=server.run, args=([sock],))
    threading.Thread(target=_obey, args=(connection, server), daemon=True).start()
    serving.start()  # not in the main thread, where it would take the signals
    serving.join()


def _obey(connection: Any, server: uvicorn.Server) -> None:
    try:
        connection.recv()
        server.should_exit = True
        connection.recv()
    except (EOFError, OSError):
        os._exit(0)


class HttpApp:
    """The routes; `ports` are the server's own two."""

    def __init__(self, plan: Plan, ports: tuple[int, int]):
        self.plan, self.arguments, self.ports = plan, plan.arguments, ports
        self.client: AsyncBertClient
        self._turn: asyncio.Semaphore
        self._held = 0  # bytes of requests
        self._page = (resources.files("bert_tf.serving") / "page.html").read_text("utf-8")

    def application(self) -> Starlette:
        """The ASGI application."""
        model = f"/v1/models/{self.arguments.model_name}"
        routes = [
            Route("/", self.page),
            Route("/encode", _answering(self.encode, _as_the_original), methods=["POST"]),
            Route("/status/server", _answering(self.server_status, _as_the_original)),
            Route("/status/client", self.client_status),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", _answering(self.metrics, _as_the_original)),
        ]
        for path in (model, f"{model}/versions/1"):
            predict = _answering(self.predict, _as_tf_serving)
            routes.append(Route(path, self.model_status))
            routes.append(Route(f"{path}:predict", predict, methods=["POST"]))
        other = _answering(self.no_model, _as_tf_serving)
        routes.append(Route("/v1/models/{name:path}", other, methods=["GET", "POST"]))
        cors = self.arguments.cors
        middleware = [
            Middleware(GZipMiddleware, minimum_size=2048, compresslevel=1),
            Middleware(
                CORSMiddleware, allow_origins=[cors], allow_methods=["*"], allow_headers=["*"]
            ),
        ]
        return Starlette(routes=routes, middleware=middleware, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        bind = self.arguments.bind
        self._turn = asyncio.Semaphore(self.arguments.http_max_connect)
        host = "127.0.0.1" if bind == "0.0.0.0" else bind
        async with AsyncBertClient(host, *self.ports) as self.client:
            yield

    # ------------------------------------------------------------------------------- vectors

    async def encode(self, request: Request) -> Response:
        """`id`, `texts` and `is_tokenized`, as JSON or as a form -> vectors."""
        with self._holding() as hold:
            data = _fields(await self._body(request, hold), request.headers.get("content-type", ""))
            vectors, tokens = await self._vectors(
                data.get("texts"), data.get("is_tokenized", False)
            )
            rows = orjson.Fragment(_json(vectors.astype(np.float32)))
            answer = {"id": data.get("id"), "result": rows, "results": rows, "status": 200}
            if tokens:
                answer["tokens"] = tokens
            return _response(answer)

    async def predict(self, request: Request) -> Response:
        """TF Serving's Predict; see `rest`."""
        with self._holding() as hold:
            data = _parsed(await self._body(request, hold))
            vectors, _ = await self._vectors(rest.texts(data), False)
            return _response(rest.answer(data, vectors, self.plan))

    async def _vectors(self, texts: Any, is_tokenized: Any) -> tuple[np.ndarray, Any]:
        if not isinstance(is_tokenized, bool):
            raise TypeError(f"is_tokenized is {is_tokenized!r:.40}; expected true or false")
        given: Texts = texts
        body_of(given, is_tokenized)  # raises what is wrong with them
        async with self._turn:
            vectors, tokens = await self.client.encode(given, is_tokenized, show_tokens=True)
        if vectors.nbytes > _MAX_VECTORS:
            size = vectors.nbytes >> 20
            raise Refused("too_large", f"{size} MB of vectors are too many; send fewer texts")
        return vectors, tokens

    @contextlib.contextmanager
    def _holding(self) -> Iterator[list[int]]:
        """What a request holds of `_MAX_BODIES`, until it is answered."""
        hold = [0]
        try:
            yield hold
        finally:
            self._held -= hold[0]

    async def _body(self, request: Request, hold: list[int]) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            hold[0] += len(chunk)
            self._held += len(chunk)
            if len(body) > protocol.MAX_MESSAGE_BYTES:
                limit = protocol.MAX_MESSAGE_BYTES >> 20
                raise Refused("too_large", f"the request has more than {limit} MB")
            if self._held > _MAX_BODIES:
                raise Refused(BUSY, "the server is busy: it holds too many requests")
        return bytes(body)

    # -------------------------------------------------------------------------------- status

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def server_status(self, request: Request) -> Response:
        return _response(await self.client.server_status())

    async def client_status(self, request: Request) -> Response:
        """Of the client that this process is of the server."""
        status = self.client.status
        numbers = {"identity": list(status["identity"])}
        numbers["pending_request"] = sorted(status["pending_request"])
        return _response(status | numbers | {"output_fmt": "list"})

    async def metrics(self, request: Request) -> Response:
        found = await self.client.command(protocol.SHOW_METRICS)
        return Response(found["metrics"], media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def healthz(self, request: Request) -> Response:
        """Whether the server answers at all."""
        alive = await self._state() is not None
        return PlainTextResponse("ok" if alive else "no answer", 200 if alive else 503)

    async def readyz(self, request: Request) -> Response:
        """Whether a worker is there to compute."""
        ready = await self._state() is True
        return PlainTextResponse("ready" if ready else "not ready", 200 if ready else 503)

    async def _state(self) -> bool | None:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                return bool((await self.client.server_config())["ready"])
        except (TimeoutError, ServingError):
            return None

    async def model_status(self, request: Request) -> Response:
        state = "AVAILABLE" if await self._state() else "LOADING"
        status = {"error_code": "OK", "error_message": ""}
        return _response(
            {"model_version_status": [{"version": "1", "state": state, "status": status}]}
        )

    async def no_model(self, request: Request) -> Response:
        raise Refused(
            "not_found",
            f"{request.method} {request.url.path} is not served; this is the model "
            f"{self.arguments.model_name} (-model_name), version 1, with GET and :predict",
        )


def _answering(
    handler: Callable[[Request], Awaitable[Response]],
    error_form: Callable[[str, str, int], dict[str, Any]],
) -> Callable[[Request], Awaitable[Response]]:
    """The handler, whose errors are answers of the given form."""

    async def answer(request: Request) -> Response:
        kind = BAD_REQUEST
        try:
            return await handler(request)
        except (TypeError, ValueError) as error:
            found: Exception = error
        except TimeoutError as error:
            found, kind = error, "timeout"
        except (ServingError, Refused) as error:
            found, kind = error, error.kind
        status = 504 if kind == "timeout" else _HTTP.get(kind, 500)
        headers = {"Retry-After": "1"} if status == 503 else None
        content = error_form(str(found), type(found).__name__, status)
        return _response(content, status, headers)

    return answer


def _as_the_original(description: str, kind: str, status: int) -> dict[str, Any]:
    return {"description": description, "type": kind, "status": status}


def _as_tf_serving(description: str, kind: str, status: int) -> dict[str, Any]:
    return {"error": description}


def _fields(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a JSON object, or of a form, in which `texts` may be there several times."""
    if not content_type.startswith("application/x-www-form-urlencoded"):
        data = _parsed(body)
        if not isinstance(data, dict):
            raise ValueError('expected a JSON object, such as {"id": 1, "texts": ["a text"]}')
        return data
    form = urllib.parse.parse_qs(body.decode(), keep_blank_values=True)
    if form.get("is_tokenized", ["false"])[0].lower() not in ("false", "0", ""):
        raise ValueError("a form cannot carry tokens; send JSON")
    return {"id": form.get("id", [None])[0], "texts": form.get("texts")}


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the request is no JSON: {error}") from None


def _json(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _response(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_json(content), status, headers, "application/json")
