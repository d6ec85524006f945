"""HTTP for the server: bert-as-service's routes, TF Serving's, and those of a cluster's probes.

It is a client of the server, so that its requests share batches with those of all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import threading
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
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

from bert_tf.serving import http_limits, protocol, rest
from bert_tf.serving.assets import Plan
from bert_tf.serving.async_client import AsyncBertClient
from bert_tf.serving.connection import ServingError
from bert_tf.serving.http_limits import TOO_LARGE, TOO_SLOW, Hold
from bert_tf.serving.protocol import BAD_REQUEST, BUSY, STOPPING, Refused

_MAX_VECTORS = 32 << 20  # bytes of an answer, which are about six times as many in JSON, twice
_MAX_CONNECTIONS = 1000
_PROBE_SECONDS = 5.0
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
_PAGE_POLICY += "connect-src 'self'"
Handler = Callable[[Request], Awaitable[Response]]

_NOT_FOUND, _TIMEOUT = "not_found", "timeout"
_HTTP = {
    BAD_REQUEST: 400,
    BUSY: 503,
    STOPPING: 503,
    _TIMEOUT: 504,
    TOO_LARGE: 413,
    TOO_SLOW: 408,
    _NOT_FOUND: 404,
}


def main(connection: Any, sock: Any, plan: Plan, ports: tuple[int, int], identity: bytes) -> None:
    """Answers until the server says "stop", and ends at once when the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it, in order
    settings = uvicorn.Config(
        http_limits.Patient(HttpApp(plan, ports, identity).application()),
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
    """The routes; `ports` are the server's own two, `identity` that of the server's client."""

    def __init__(self, plan: Plan, ports: tuple[int, int], identity: bytes):
        self.plan, self.arguments, self.ports = plan, plan.arguments, ports
        self.identity = identity
        self.client: AsyncBertClient
        self._turn: asyncio.Semaphore
        self._budget = http_limits.Budget()
        self._page = (resources.files("bert_tf.serving") / "page.html").read_text("utf-8")

    def application(self) -> Starlette:
        """The ASGI application."""
        model = f"/v1/models/{self.arguments.model_name}"
        encode = _answering(self._holding(self.encode), _as_the_original)
        predict = _answering(self._holding(self.predict), _as_tf_serving)
        routes = [
            Route("/", self.page),
            Route("/encode", encode, methods=["POST"]),
            Route("/status/server", _answering(self.server_status, _as_the_original)),
            Route("/status/client", self.client_status),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", _answering(self.metrics, _as_the_original)),
        ]
        for path in (model, f"{model}/versions/1"):
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
        async with AsyncBertClient(host, *self.ports, self.identity) as self.client:
            yield

    # ------------------------------------------------------------------------------- vectors

    async def encode(self, request: Request, hold: Hold) -> bytes:
        """`id`, `texts` and `is_tokenized`, as JSON or as a form -> vectors."""
        data = _fields(
            await http_limits.body(request, hold), request.headers.get("content-type", "")
        )
        if isinstance(data.get("id"), dict | list):
            raise ValueError("id is sent back with the answer; give a string or a number")
        texts, is_tokenized = data.get("texts"), data.get("is_tokenized", False)
        vectors, tokens, cut = await self._vectors(texts, is_tokenized)
        rows = orjson.Fragment(_json(vectors.astype(np.float32)))
        answer = {"id": data.get("id"), "result": rows, "results": rows, "status": 200}
        if tokens:
            answer["tokens"] = tokens
        return _json(answer | _truncated(cut))

    async def predict(self, request: Request, hold: Hold) -> bytes:
        """TF Serving's Predict; see `rest`."""
        data = _parsed(await http_limits.body(request, hold))
        vectors, _, cut = await self._vectors(rest.texts(data), False)
        return _json(rest.answer(data, vectors, self.plan) | _truncated(cut))

    async def _vectors(self, texts: Any, is_tokenized: Any) -> tuple[np.ndarray, Any, list[int]]:
        if is_tokenized not in (None, False, True):  # 0 and 1 too, as the original takes them
            raise TypeError(f"is_tokenized is {is_tokenized!r:.40}; expected true or false")
        async with self._turn:
            vectors, tokens, cut = await self.client.encode(
                texts, bool(is_tokenized), show_tokens=True, show_truncated=True
            )
        if vectors.nbytes > _MAX_VECTORS:
            size = vectors.nbytes >> 20
            raise Refused(TOO_LARGE, f"{size} MB of vectors are too many; send fewer texts")
        return vectors, tokens, cut

    def _holding(self, handler: Callable[[Request, Hold], Awaitable[bytes]]) -> Handler:
        """The handler, whose request and answer count as held until the answer is sent."""

        async def answer(request: Request) -> Response:
            hold = self._budget.hold()
            try:
                body = await handler(request, hold)
                hold.take(len(body))
            except BaseException:
                hold.release()
                raise
            return http_limits.Answer(body, hold)

        return answer

    # -------------------------------------------------------------------------------- status

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def server_status(self, request: Request) -> Response:
        return _response(await self.client.server_status())

    async def client_status(self, request: Request) -> Response:
        """Of the client that this process is of the server.

        Of its identity only a fingerprint: who knows it can subscribe to all answers.
        """
        status = self.client.status
        numbers: dict[str, Any] = {"identity": list(hashlib.sha256(self.identity).digest()[:16])}
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
            _NOT_FOUND,
            f"{request.method} {request.url.path} is not served; this is the model "
            f"{self.arguments.model_name} (-model_name), version 1, with GET and :predict",
        )


def _answering(handler: Handler, error_form: Callable[[str, str, int], dict[str, Any]]) -> Handler:
    """The handler, whose errors are answers of the given form."""

    async def answer(request: Request) -> Response:
        kind = BAD_REQUEST
        try:
            return await handler(request)
        except (TypeError, ValueError) as error:
            found: Exception = error
        except TimeoutError as error:
            found, kind = error, _TIMEOUT
        except (ServingError, Refused) as error:
            found, kind = error, error.kind
        status = _HTTP.get(kind, 500)
        headers = {"Retry-After": "1"} if status == 503 else None
        content = error_form(str(found), type(found).__name__, status)
        return _response(content, status, headers)

    return answer


def _as_the_original(description: str, kind: str, status: int) -> dict[str, Any]:
    return {"description": description, "type": kind, "status": status}


def _as_tf_serving(description: str, kind: str, status: int) -> dict[str, Any]:
    return {"error": description}


def _fields(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a JSON object, or of a form, in which `texts` may be there several times.

    What curl sends without being told a type says that it is a form.
    """
    if content_type.startswith("multipart/"):
        raise ValueError("multipart is not read; send JSON, or a form with & between its fields")
    form = content_type.startswith("application/x-www-form-urlencoded")
    if not form or body.lstrip().startswith((b"{", b"[")):
        data = _parsed(body)
        if not isinstance(data, dict):
            raise ValueError('expected a JSON object, such as {"id": 1, "texts": ["a text"]}')
        return data
    try:
        fields = urllib.parse.parse_qs(body.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"the form is not UTF-8: {error}") from None
    if fields.get("is_tokenized", ["false"])[0].lower() not in ("false", "0", ""):
        raise ValueError("a form cannot carry tokens; send JSON")
    return {"id": fields.get("id", [None])[0], "texts": fields.get("texts")}


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the request is no JSON: {error}") from None


def _truncated(rows: list[int]) -> dict[str, Any]:
    """Return what an answer says of texts that were cut; nothing where none was."""
    return {"truncated": {"count": len(rows), "rows": rows}} if rows else {}


def _json(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _response(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_json(content), status, headers, "application/json")
