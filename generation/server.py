"""The HTTP API and the page, as an ASGI application. docs/api.md describes it for users."""

import asyncio
import json
import mimetypes
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from configurator import first_line
from generation.catalog import Catalog
from generation.completions import (
    Answer,
    ApiError,
    Delta,
    Usage,
    parse_candidates,
    parse_completion,
    warnings_json,
)
from generation.jobs import CandidatesJob, CompletionJob, Finished, Job, Waiting
from generation.security import Access, HostGuard, KeyGuard, error_response
from generation.worker import Worker

WEB = Path(__file__).resolve().parent.parent / "web"
LARGEST_BODY = 4 * 2**20  # bytes
KEEP_ALIVE = 1.0  # seconds without an event after which a stream gets a comment
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second is for nginx

# Windows may have other types in its registry, and browsers run no module of another type.
for suffix, kind in {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}.items():
    mimetypes.add_type(kind, suffix)


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    max_tokens: int


class Events:
    """The events of a job, carried from the worker's thread into the event loop."""

    def __init__(self):
        self.loop, self.queue = asyncio.get_running_loop(), asyncio.Queue()

    def emit(self, event) -> None:
        """Take an event, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, event)
        except RuntimeError:  # the loop is closed: the server ends
            pass

    async def next(self, seconds: float | None = None):
        """The next event; None: there was none for so long."""
        try:
            return await asyncio.wait_for(self.queue.get(), seconds)
        except asyncio.TimeoutError:
            return None

    async def all(self) -> tuple[list[Delta], Usage | list[dict]]:
        """All deltas, and the result. Raises ApiError."""
        deltas = []
        while not isinstance(event := await self.next(), Finished):
            if isinstance(event, ApiError):
                raise event
            if isinstance(event, Delta):
                deltas.append(event)
        return deltas, event.result


class JobResponse(StreamingResponse):
    """A stream whose job is cancelled when the client is gone, also before the first event."""

    def __init__(self, content: AsyncIterator[str], worker: Worker, job: Job):
        super().__init__(content, headers=STREAM_HEADERS, media_type="text/event-stream")
        self.worker, self.job = worker, job

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.worker.cancel(self.job)


class Api:
    """The endpoints."""

    def __init__(self, worker: Worker, catalog: Catalog, limits: Limits):
        self.worker, self.catalog, self.limits = worker, catalog, limits

    async def health(self, request: Request) -> Response:
        worker = self.worker
        state = {"queue": len(worker.waiting), "running": len(worker.running), "tokens_per_s": worker.tokens_per_s}
        return JSONResponse({"status": "ok", "model": self.catalog.default_id, **state})

    def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self.catalog.list()})

    def model(self, request: Request) -> Response:
        return JSONResponse(self.catalog.describe(*self.catalog.find(request.path_params["model_id"])))

    async def completions(self, request: Request) -> Response:
        wanted = await self.with_model(parse_completion(await read_json(request), self.limits.max_tokens))
        events, answer = Events(), Answer(wanted.model)
        job = CompletionJob(wanted, events.emit)
        self.worker.submit(job)
        if wanted.stream:
            return JobResponse(self.stream(job, events, answer), self.worker, job)
        deltas, usage = await self.collect(request, job, events)
        return JSONResponse(answer.whole(deltas, usage, job.warnings))

    async def candidates(self, request: Request) -> Response:
        wanted, events = await self.with_model(parse_candidates(await read_json(request))), Events()
        job = CandidatesJob(wanted, events.emit)
        self.worker.submit(job)
        _, candidates = await self.collect(request, job, events)
        return JSONResponse({"model": wanted.model, "candidates": candidates, **warnings_json(job.warnings)})

    async def with_model(self, wanted):
        """The request with its model's id. Raises ApiError for an unknown one."""
        model_id, _ = await run_in_threadpool(self.catalog.find, wanted.model)
        return replace(wanted, model=model_id)

    async def collect(self, request: Request, job: Job, events: Events):
        """A job's deltas and its result. A client that goes away cancels it. Raises ApiError."""
        tasks = [asyncio.create_task(events.all()), asyncio.create_task(client_is_gone(request))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                return tasks[0].result()
            raise ApiError(503, "the client is gone")
        finally:
            self.worker.cancel(job)
            for task in tasks:
                task.cancel()

    async def stream(self, job: CompletionJob, events: Events, answer: Answer) -> AsyncIterator[str]:
        """Server-sent events. Comments say the place in the queue, and keep the connection alive."""
        comment, first, include_usage = ": waiting\n\n", True, job.request.include_usage
        while not isinstance(event := await events.next(KEEP_ALIVE), (Finished, ApiError)):
            if isinstance(event, Delta):
                yield data(answer.chunk(event, include_usage, job.warnings if first else []))
                comment, first = ": writing\n\n", False
            else:
                if isinstance(event, Waiting):
                    comment = f": queue {event.place}\n\n" if event.place else ": reading the prompt\n\n"
                yield comment
        if isinstance(event, ApiError):
            yield data(event.body)
        elif include_usage:
            yield data(answer.usage_chunk(event.result))
        yield "data: [DONE]\n\n"


def data(content: dict) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def client_is_gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_json(request: Request):
    """The body of a request. Raises ApiError when it is not JSON, or too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # Web pages of other origins can send other types without asking first.
        raise ApiError(415, "the Content-Type must be application/json", code="unsupported_media_type")
    body, size = bytearray(), 0
    async for chunk in request.stream():  # read to its end, so that the client reads the answer
        size += len(chunk)
        if size <= LARGEST_BODY:
            body += chunk
    if size > LARGEST_BODY:
        raise ApiError(413, f"the body has {size:,} bytes; at most {LARGEST_BODY:,} are read", code="too_large")
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None


async def on_crash(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return error_response(ApiError(500, f"the server failed: {first_line(error)}", code="internal_error"))


async def on_api_error(request: Request, error: ApiError) -> Response:
    return error_response(error)


async def on_http_error(request: Request, error: HTTPException) -> Response:
    return error_response(ApiError(error.status_code, error.detail, headers=error.headers))


def make_app(worker: Worker, catalog: Catalog, access: Access, limits: Limits):
    """The ASGI application."""
    api = Api(worker, catalog, limits)
    routes = [
        Route("/", lambda request: FileResponse(WEB / "index.html")),
        Mount("/web", StaticFiles(directory=WEB)),
        Route("/health", api.health),
        Route("/v1/models", api.models),
        Route("/v1/models/{model_id:path}", api.model),
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/candidates", api.candidates, methods=["POST"]),
    ]
    middleware = [Middleware(KeyGuard, access=access)]
    if access.allow_origin:
        settings = {"allow_origins": access.allow_origin, "allow_headers": ["*"], "allow_methods": ["GET", "POST"]}
        cors = Middleware(CORSMiddleware, **settings, expose_headers=["Retry-After"], allow_private_network=True)
        middleware.insert(0, cors)
    handlers = {ApiError: on_api_error, HTTPException: on_http_error, Exception: on_crash}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    return HostGuard(app, access)
