"""The routes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from runtime.serving.bodies import GONE, Gone, read_body, unless_left
from runtime.serving.contract import Order
from runtime.serving.documentation import describe, documentation_page
from runtime.serving.errors import Refusal, failed, out_of_time
from runtime.serving.events import HEARTBEAT_COMMENT, answer, completed_event, error_event, partial_event
from runtime.serving.jobs import Done, Event, Failed, Job, Partial
from runtime.serving.names import NAME_HEADER, chosen_name
from runtime.serving.service import Service

STATIC = Path(__file__).parent / "static"
READERS = 2  # threads that read requests and encode pictures, beside the one that draws
HEARTBEAT = 15.0  # seconds without an event, after which a stream gets a comment: some proxies hang up


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it starts and closes. `guard.Guard` belongs around it."""
    threads = anyio.CapacityLimiter(READERS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(title="RealCompo", lifespan=lifespan, docs_url=None, redoc_url=None)
    describe(app, service.bundle)
    _answer_errors(app, service)
    _add_generations(app, service, threads)
    _add_status(app, service)
    _add_page(app)
    return app


def _add_generations(app: FastAPI, service: Service, threads: anyio.CapacityLimiter) -> None:
    async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=threads)

    async def read(body: bytes) -> Order:
        """Raises: Refusal: a field is wrong, or the time is over: the thread then ends on its own."""
        try:
            async with asyncio.timeout(service.settings.time_limit_seconds):
                return await anyio.to_thread.run_sync(service.read, body, limiter=threads, abandon_on_cancel=True)
        except TimeoutError as error:
            raise out_of_time(service.settings.time_limit) from error

    @app.post("/v1/images/generations", summary="Draw")
    async def generate(request: Request) -> Response:
        name = chosen_name(request)
        service.arrive()
        try:
            body, came = await read_body(request, service.settings.max_body_bytes), time.monotonic()
            order = await read(body)
            events: asyncio.Queue[Event] = asyncio.Queue()
            job = service.accept(order, _teller(events), name, came)
        finally:
            service.depart()
        headers = {NAME_HEADER: job.id}
        if order.stream:
            parts = _stream(service, job, events, in_thread)
            return _Events(parts, partial(service.forget, job), headers)
        try:
            done = await unless_left(request, _result(service, job, events))
            found = await in_thread(answer, job, done, service.bundle.name)
            service.metrics.answers.labels("200").inc()
            return JSONResponse(found, headers=headers)
        finally:
            service.forget(job)

    @app.post("/v1/layouts", summary="Plan boxes for a prompt")
    async def plan(request: Request) -> Response:
        body = await read_body(request, service.settings.max_body_bytes)
        return Response(await in_thread(service.plan, body), media_type="application/json")

    @app.delete("/v1/images/generations/{name}", summary="Cancel")
    async def cancel(name: str) -> dict[str, Any]:
        service.cancel(service.find(name))
        return {"id": name, "cancelled": True}


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC))


def _add_status(app: FastAPI, service: Service) -> None:
    def health(what: str) -> JSONResponse:
        return JSONResponse({what: service.health[what]}, 200 if service.health[what] else 503)

    @app.get("/v2/health/live", summary="Whether the engines work")
    async def live() -> JSONResponse:
        return health("live")

    @app.get("/v2/health/ready", summary="Whether requests are taken")
    async def ready() -> JSONResponse:
        return health("ready")

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", summary="What is served")
    async def models() -> dict[str, Any]:
        height, width = service.bundle.image_size
        model = {
            "id": service.bundle.name,
            "object": "model",
            "owned_by": "realcompo",
            "size": f"{width}x{height}",
            "gradients": service.bundle.gradients,
            "presets": service.bundle.presets(),
            "same_bits_in_batches": service.same_bits,
        }
        return {"object": "list", "data": [model]}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(documentation_page(app.openapi()), media_type="text/html; charset=utf-8")


class _Events(StreamingResponse):
    """A stream that says when it is over, also where the client left before it began."""

    def __init__(self, parts: AsyncIterator[bytes], over: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(parts, media_type="text/event-stream", headers={**headers, "Cache-Control": "no-store"})
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


async def _result(service: Service, job: Job, events: asyncio.Queue[Event]) -> Done:
    """Raises: Refusal."""
    while not isinstance(event := await _next(service, job, events), Done):
        if isinstance(event, Failed):
            raise event.refusal
    return event


async def _stream(
    service: Service,
    job: Job,
    events: asyncio.Queue[Event],
    in_thread: Callable[..., Awaitable[Any]],
) -> AsyncIterator[bytes]:
    """Server-sent events of a request."""
    while True:
        match await _next(service, job, events):
            case None:
                yield HEARTBEAT_COMMENT
            case Partial() as event:
                yield await in_thread(partial_event, job, event)
            case Done() as event:
                found = await in_thread(completed_event, job, event, service.bundle.name)
                service.metrics.answers.labels("200").inc()
                yield found
                return
            case Failed() as event:
                _count(service, event.refusal)
                yield error_event(event.refusal)
                return


async def _next(service: Service, job: Job, events: asyncio.Queue[Event]) -> Event | None:
    """The next event of a request, its time being over is one; None after a while without any."""
    try:
        async with asyncio.timeout(min(HEARTBEAT, _seconds_left(service, job))):
            return await events.get()
    except TimeoutError:
        return Failed(service.expire(job)) if _seconds_left(service, job) <= 0 else None


def _seconds_left(service: Service, job: Job) -> float:
    return job.came + service.settings.time_limit_seconds - time.monotonic()


def _teller(events: asyncio.Queue[Event]) -> Callable[[Event], None]:
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


def _answer_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        _count(service, refusal)
        return JSONResponse(refusal.body(), refusal.status, headers=dict(refusal.headers))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        refusal = Refusal(error.status_code, "no_route", f"{error.detail}; see /docs")
        return JSONResponse(refusal.body(), error.status_code, headers=error.headers)

    @app.exception_handler(Gone)
    async def gone(request: Request, error: Gone) -> Response:
        return Response(status_code=GONE)  # nobody reads it

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(failed().body(), 500)


def _count(service: Service, refusal: Refusal) -> None:
    service.metrics.answers.labels(str(refusal.status)).inc()
    service.metrics.refusals.labels(refusal.code).inc()
