"""The HTTP API and the page, as an ASGI application. docs/api.md describes it for users."""

import asyncio
import json
import mimetypes
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
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

from configurator import UserError, first_line
from generation.catalog import Catalog
from generation.completions import (
    ApiError,
    Delta,
    answer_head,
    answer_json,
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

# Windows may have other types in its registry, and browsers run no module of another type.
for suffix, kind in {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}.items():
    mimetypes.add_type(kind, suffix)


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

    async def all(self) -> tuple[list[Delta], dict | list[dict]]:
        """All deltas, and the result. Raises ApiError."""
        deltas = []
        while not isinstance(event := await self.next(), Finished):
            if isinstance(event, ApiError):
                raise event
            if isinstance(event, Delta):
                deltas.append(event)
        return deltas, event.result


class Api:
    """The endpoints."""

    def __init__(self, worker: Worker, catalog: Catalog, max_tokens: int):
        """max_tokens: the longest continuation that a request may ask for."""
        self.worker, self.catalog, self.max_tokens = worker, catalog, max_tokens

    async def health(self, request: Request) -> Response:
        return JSONResponse(
            {
                "status": "ok",
                "model": self.catalog.default_id,
                "queue": len(self.worker.waiting),
                "running": len(self.worker.running),
                "tokens_per_s": self.worker.tokens_per_s,
                "max_tokens": self.max_tokens,
            }
        )

    def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self.catalog.list()})

    def model(self, request: Request) -> Response:
        model_id, folder = self.catalog.find(request.path_params["model_id"])
        try:
            return JSONResponse(self.catalog.describe(model_id, folder))
        except (UserError, OSError) as error:  # damaged, or pruned by training at this moment
            raise ApiError(503, str(error), code="model_unavailable") from None

    async def completions(self, request: Request) -> Response:
        wanted = parse_completion(await read_json(request), self.max_tokens)
        job, events = await self.start(request, wanted, CompletionJob)
        head = answer_head(job.request.model)
        if wanted.stream:
            headers = {"X-Accel-Buffering": "no"}  # for nginx
            return StreamingResponse(self.stream(job, events, head), headers=headers, media_type="text/event-stream")
        deltas, usage = await events.all()
        return JSONResponse(answer_json(head, deltas, job.warnings, usage=usage))

    async def candidates(self, request: Request) -> Response:
        job, events = await self.start(request, parse_candidates(await read_json(request)), CandidatesJob)
        _, candidates = await events.all()
        return JSONResponse({"model": job.request.model, "candidates": candidates, **warnings_json(job.warnings)})

    async def start(self, request: Request, wanted, job_class: type[Job]) -> tuple[Job, Events]:
        """Put a request into the queue. Raises ApiError for an unknown model and for a full queue."""
        model_id, _ = await run_in_threadpool(self.catalog.find, wanted.model)
        events = Events()
        job = job_class(replace(wanted, model=model_id), events.emit)
        self.worker.submit(job)
        events.watch = asyncio.create_task(self.cancel_when_gone(request, job))  # the event loop keeps no reference
        return job, events

    async def cancel_when_gone(self, request: Request, job: Job) -> None:
        """Cancel a job whose client has closed the connection, also before the first event."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.worker.cancel(job)
        job.emit(ApiError(503, "the client is gone"))  # ends Events.all

    async def stream(self, job: CompletionJob, events: Events, head: dict) -> AsyncIterator[str]:
        """Server-sent events. Comments say the place in the queue, and keep the connection alive."""
        comment, first, include_usage = ": waiting\n\n", True, job.request.include_usage
        usage = {"usage": None} if include_usage else {}  # of all events but the last
        while not isinstance(event := await events.next(KEEP_ALIVE), (Finished, ApiError)):
            if isinstance(event, Delta):
                yield data(answer_json(head, [event], job.warnings if first else [], **usage))
                comment, first = ": writing\n\n", False
            else:
                if isinstance(event, Waiting):
                    comment = f": queue {event.place}\n\n" if event.place else ": reading the prompt\n\n"
                yield comment
        if isinstance(event, ApiError):
            yield data(event.body)
        elif include_usage:
            yield data(answer_json(head, [], [], usage=event.result))
        yield "data: [DONE]\n\n"


def data(content: dict) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


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


def make_app(worker: Worker, catalog: Catalog, access: Access, max_tokens: int):
    """The ASGI application."""
    api = Api(worker, catalog, max_tokens)
    routes = [
        Route("/", lambda request: FileResponse(WEB / "index.html")),
        Mount("/web", StaticFiles(directory=WEB)),
        Route("/health", api.health),
        Route("/v1/models", api.models),
        Route("/v1/models/", api.models),
        Route("/v1/models/{model_id:path}", api.model),
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/candidates", api.candidates, methods=["POST"]),
    ]
    middleware = [Middleware(KeyGuard, access=access)]
    if access.allow_origin:
        cors = Middleware(  # around the key's, so that a page can read its errors
            CORSMiddleware,
            allow_origins=[origin.rstrip("/") for origin in access.allow_origin],  # as browsers send it
            allow_headers=["*"],
            allow_methods=["GET", "POST"],
            expose_headers=["Retry-After"],
            allow_private_network=True,
        )
        middleware.insert(0, cors)
    handlers = {
        ApiError: lambda request, e: error_response(e),
        HTTPException: lambda request, e: error_response(ApiError(e.status_code, e.detail, headers=e.headers)),
        Exception: on_crash,
    }
    return HostGuard(Starlette(routes=routes, middleware=middleware, exception_handlers=handlers), access)
