"""Endpoints for load balancers, orchestrators and operators: health, readiness, version."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .. import __version__
from .auth import Auth
from .handling import Handler
from .operator.page import page
from .operator.probes import probe_stores

#: Seconds for which a probe of the stores is cached.
_FRESH = 1.0


class Readiness:
    """Whether the stores can be used; one probe at a time."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._asked = -_FRESH
        self._problems: dict[str, str] = {}
        self._guard = asyncio.Lock()

    async def problems(self) -> dict[str, str]:
        """Component -> its problem; empty if the server is ready."""
        if self._handler.jobs.draining:
            return {"server": "is being stopped"}
        async with self._guard:
            if time.monotonic() - self._asked >= _FRESH:
                self._problems = await self._look()
                self._asked = time.monotonic()
        return self._problems

    async def _look(self) -> dict[str, str]:
        found = await probe_stores(self._handler.conversations)
        return {
            name: _problem(answer)
            for name, answer in found.items()
            if isinstance(answer, BaseException)
        }


def _problem(error: BaseException) -> str:
    """An error for any client: only its type, because texts name hosts and users."""
    return "does not answer" if isinstance(error, asyncio.TimeoutError) else type(error).__name__


def routes(handler: Handler, auth: Auth, bot_name: str) -> list[Route]:
    readiness = Readiness(handler)

    async def greet(request: Request) -> Response:
        return page(request) or PlainTextResponse(f"Hello from ticketlock: {__version__}")

    async def version(request: Request) -> Response:
        return JSONResponse({"version": __version__, "minimum_compatible_version": __version__})

    async def status(request: Request) -> Response:
        auth.api(request)
        jobs = handler.jobs
        return JSONResponse(
            {
                "model_file": bot_name,
                "model_id": None,
                "num_active_training_jobs": 0,
                "draining": jobs.draining,
                "turns_running": jobs.running,
                "turns_waiting": jobs.waiting,
            }
        )

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        problems = await readiness.problems()
        if not problems:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "problems": problems}, 503)

    table = [
        ("/", greet), ("/version", version), ("/status", status), ("/health", health),
        ("/ready", ready),
    ]  # fmt: skip
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in table]
