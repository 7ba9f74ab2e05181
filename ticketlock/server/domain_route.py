"""`GET /domain`: the domain of the bot, as documented."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.domain import Domain
from ..files.yaml import yaml_of
from .auth import Auth
from .errors import Conflict, NotAcceptable

_JSON, _YAML = "application/json", "application/yaml"


def routes(domain: Domain | None, auth: Auth) -> list[Route]:
    """The route of the domain."""

    async def show(request: Request) -> Response:
        auth.api(request)
        if domain is None:
            raise Conflict("the server has no domain: start it with --domain FILE")
        accepted = request.headers.get("accept", _JSON).partition(";")[0].strip()
        if accepted.endswith(("json", "*/*")):
            return Response(domain.as_json(), media_type=_JSON)
        if accepted.endswith(("yml", "yaml")):
            return Response(yaml_of(domain.as_dict()), media_type=_YAML)
        raise NotAcceptable(f"the domain is available as {_JSON} or {_YAML}: name one in Accept")

    return [Route("/domain", show, methods=["GET"])]
