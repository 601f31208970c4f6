"""A deployment behind HTTP: the Open Inference Protocol, health and metrics, on Starlette and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..errors import WorkbenchError, refuse_unless
from .batching import Closed, QueueFull
from .open_inference import HEADER_LENGTH, InferenceRequest, model_metadata, read_request, write_response
from .service import Deployment

#: The largest body of a request, bytes, and how long it may take to arrive, seconds.
MAX_BODY_BYTES, BODY_S = 64 << 20, 60.0
#: How long requests that run are waited for at the end, seconds.
SHUTDOWN_S = 30


class Endpoints:
    """The answers to each address. The only version of the model is ``version``."""

    def __init__(self, service: Deployment, version: str, max_body: int):
        self._service, self._version, self._max_body = service, version, max_body

    def routes(self) -> list[Route]:
        """The addresses of the protocol, and ``/metrics``."""
        model = "/v2/models/{name}"
        both = (model, model + "/versions/{version}")
        return [
            Route("/v2", self.server),
            Route("/v2/health/live", self.alive),
            Route("/v2/health/ready", self.alive),
            Route("/metrics", self.metrics),
            *(Route(path, self.model) for path in both),
            *(Route(f"{path}/ready", self.ready) for path in both),
            *(Route(f"{path}/infer", self.infer, methods=["POST"]) for path in both),
        ]

    async def server(self, request: Request) -> Response:
        """The server's metadata."""
        return JSONResponse({"name": "workbench", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def alive(self, request: Request) -> Response:
        """200: while the server runs, it answers, with the engine or with the original."""
        return Response()

    async def metrics(self, request: Request) -> Response:
        """The metrics for Prometheus."""
        text = await run_in_threadpool(self._service.metrics_text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(self, request: Request) -> Response:
        """The model's metadata."""
        self._check_name(request)
        return JSONResponse(model_metadata(self._service.manifest, self._version))

    async def ready(self, request: Request) -> Response:
        """200 for the model that is served, 404 for another."""
        self._check_name(request)
        return Response()

    async def infer(self, request: Request) -> Response:
        """Logits of images."""
        self._check_name(request)
        body = await self._body(request)
        with self._service.counted():
            asked, answers = await run_in_threadpool(self._submitted, body, request.headers.get(HEADER_LENGTH))
            parts = await asyncio.gather(*map(asyncio.wrap_future, answers))
        content, headers = write_response(np.concatenate(parts), asked, self._service.manifest, self._version)
        return Response(content, headers=headers)

    def _submitted(self, body: bytes, header_length: str | None) -> tuple[InferenceRequest, list]:
        asked = read_request(body, header_length, self._service.manifest)
        return asked, self._service.submit(asked.images)

    def _check_name(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", self._version)
        if (name, version) != (self._service.manifest.name, self._version):
            served = f"{self._service.manifest.name}, version {self._version}"
            raise HTTPException(404, f"There is no model {name!r}, version {version!r}; served is {served}")

    async def _body(self, request: Request) -> bytes:
        try:
            return await asyncio.wait_for(self._received(request), BODY_S)
        except asyncio.TimeoutError:
            raise HTTPException(408, f"The body did not arrive within {BODY_S:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "The client left before its request had arrived") from None

    async def _received(self, request: Request) -> bytes:
        body = bytearray()
        async for block in request.stream():
            body += block
            if len(body) > self._max_body:
                raise HTTPException(
                    413, f"The body has more than {self._max_body} bytes; send fewer images a request"
                )
        return bytes(body)


def application(service: Deployment, version: str = "1", max_body: int = MAX_BODY_BYTES) -> Starlette:
    """The ASGI application of a service; the service is closed when the application ends.

    Args:
        service: what ``deploy`` returned.
        version: the version in addresses and answers.
        max_body: the largest body of a request, bytes.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        await run_in_threadpool(service.close)

    return Starlette(
        routes=Endpoints(service, version, max_body).routes(),
        exception_handlers={HTTPException: _http_error, WorkbenchError: _workbench_error, 500: _server_error},
        lifespan=lifespan,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _workbench_error(request: Request, error: Exception) -> Response:
    if isinstance(error, QueueFull | Closed):
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
    return JSONResponse({"error": str(error)}, 400)


async def _server_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The service failed; its log says how"}, 500)


def serve(service: Deployment, host: str = "127.0.0.1", port: int = 8000, announce=print) -> None:
    """Serve over HTTP until SIGTERM or Ctrl-C; what was asked before is answered first.

    Args:
        service: what ``deploy`` returned; it is closed at the end.
        host: the address to listen at; only this machine reaches the default.
        port: 0 takes any free one.
        announce: gets one sentence with the address when the port is open.

    Raises:
        WorkbenchError: the port is taken or the address is none of this machine.
    """
    refuse_unless(
        0 <= port <= 65535,
        f"There is no port {port}",
        why="ports are numbered 0 to 65535",
        remedy="give another --port, or 0 for any free one",
    )
    try:
        listening = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        remedy = "give another --port, or 0 for any free one; --host is an address of this machine"
        raise WorkbenchError(f"{host}:{port} cannot be listened at", why=str(error), remedy=remedy) from error
    with listening:
        address = f"http://{host}:{listening.getsockname()[1]}"
        announce(f"{service.manifest.name} is served at {address}/v2/models/{service.manifest.name}/infer")
        config = uvicorn.Config(
            application(service), log_level="warning", timeout_graceful_shutdown=SHUTDOWN_S, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])
