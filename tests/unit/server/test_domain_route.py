"""`GET /domain`, as a real Rasa 3.6.21 has it."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML
from serving import client
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import Domain

DOMAIN = Domain.from_dict(
    {"slots": {"city": {"type": "text"}}, "responses": {"utter_a": [{"text": "a\nü: {city}"}]}}
)


async def get(store: Any, accept: str | None, **settings: Any) -> Any:
    async with client(None, (None, store), **settings) as http:
        del http.headers["accept"]
        return await http.get("/domain", headers={} if accept is None else {"Accept": accept})


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html, */*;q=0.8"])
async def test_as_json(accept: str | None) -> None:
    answer = await get(InMemoryTrackerStore(DOMAIN), accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOMAIN.as_dict()


@pytest.mark.parametrize("accept", ["application/yaml", "application/x-yml"])
async def test_as_yaml(accept: str) -> None:
    answer = await get(InMemoryTrackerStore(DOMAIN), accept)
    assert answer.headers["content-type"] == "application/yaml"
    assert YAML(typ="safe").load(answer.text) == DOMAIN.as_dict()


async def test_another_type() -> None:
    answer = await get(InMemoryTrackerStore(DOMAIN), "text/html")
    assert (answer.status_code, answer.json()["reason"]) == (406, "NotAcceptable")


async def test_without_a_domain() -> None:
    answer = await get(None, None)
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert "--domain FILE" in answer.json()["message"]


async def test_it_needs_the_token() -> None:
    answer = await get(InMemoryTrackerStore(DOMAIN), None, auth_token="a-token-of-the-tests")
    assert answer.status_code == 401
