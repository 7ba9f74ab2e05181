"""The OpenAPI document says what the server does."""

from __future__ import annotations

import re
from typing import Any

from serving import client

from ticketlock import Conversations
from ticketlock.deliveries.settings import CallbackSettings
from ticketlock.server import create_app, create_channels
from ticketlock.server.openapi import document
from ticketlock.server.settings import Settings

CHANNELS = {
    "slack": {"signing_secret": "of-the-tests", "bot_token": "xoxb-of-the-tests"},
    "messenger": {
        "app_secret": "of-the-tests", "verify_token": "of-the-tests",
        "access_token": "of-the-tests", "page_id": "7",
    },
}  # fmt: skip
#: For operators, not for clients.
HIDDEN = re.compile(r"/(openapi\.json|metrics|live.*)")


async def test_every_route_is_in_it() -> None:
    """Those of callback and channels too, as they are served; GET only where it answers."""
    channels = create_channels(CHANNELS)
    callback = CallbackSettings(url="http://hooks.example/")
    app = create_app(Conversations(), channels=channels, callback=callback)
    served = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
        if not HIDDEN.fullmatch(route.path)  # type: ignore[attr-defined]
    }
    made = document(Settings(), channels, callback=True)
    found = {
        (method.upper(), path)
        for path, methods in made["paths"].items()
        for method in methods
        if method != "parameters"
    }
    assert found == served - {("GET", "/webhooks/slack/webhook")}
    fewer = document(Settings())["paths"]
    assert not [path for path in fewer if "callback" in path or "slack" in path]


def fits(made: dict[str, Any], name: str, value: dict[str, Any]) -> bool:
    """Whether an object has what its schema requires, and nothing that it does not know."""
    schema = made["components"]["schemas"][name]
    return set(schema["required"]) <= set(value) <= set(schema["properties"])


async def test_the_answers_of_accepted_messages() -> None:
    async with client() as http:
        made = (await http.get("/openapi.json")).json()
        path, states = "/webhooks/rest/webhook", made["components"]["schemas"]["Outcome"]
        for more, state in (({}, "replied"), ({"after": 60}, "due")):
            body = {"message": "hi", "sender": "anna", **more}
            answer = await http.post(path, params={"async": "true"}, json=body)
            assert str(answer.status_code) in made["paths"][path]["post"]["responses"]
            assert fits(made, "Accepted", answer.json())
            outcome = (await http.get(answer.headers["location"] + "?wait=5" * (not more))).json()
            assert fits(made, "Outcome", outcome)
            assert outcome["state"] == state
            assert state in states["properties"]["state"]["enum"]
