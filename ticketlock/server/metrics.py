"""`GET /metrics`: the metrics of this process, in the text format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..conversations import Conversations
from .auth import Auth
from .errors import NotAuthenticated, NotAuthorized, NotFound

if TYPE_CHECKING:
    from ..telemetry.prometheus import PrometheusMetrics


def observe(conversations: Conversations) -> PrometheusMetrics | None:
    """Start the metrics; None without the extra `prometheus`."""
    try:
        from ..telemetry.prometheus import PrometheusMetrics
    except ImportError:
        return None
    made = PrometheusMetrics()
    conversations.observe(made)
    return made


def routes(metrics: PrometheusMetrics | None, auth: Auth) -> list[Route]:
    async def show(request: Request) -> Response:
        try:
            auth.admin(request)
        except (NotAuthenticated, NotAuthorized):
            auth.api(request)
        if metrics is None:
            raise NotFound(
                '/metrics needs the extra prometheus: pip install "ticketlock[prometheus]"'
            )
        text, content_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return [Route("/metrics", show, methods=["GET"])]
