"""`python -m benchmarks.workloads.bare_server PORT HTTP LOOP`: a request with as much JSON, and no more."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def webhook(request: Request) -> JSONResponse:
    body = await request.json()
    return JSONResponse([{"recipient_id": body["sender"], "text": body["message"]}])


if __name__ == "__main__":
    app = Starlette(routes=[Route("/webhooks/rest/webhook", webhook, methods=["POST"])])
    port, http, loop = sys.argv[1:]
    options: dict[str, Any] = {"http": http, "loop": loop}  # two of its words each
    uvicorn.run(app, port=int(port), access_log=False, log_level="warning", **options)
