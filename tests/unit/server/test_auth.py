"""Tokens and JWTs: nothing is open by accident once one is configured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from serving import client, send

from ticketlock import ConfigurationError
from ticketlock.server import Settings
from ticketlock.server.auth import Auth

SECRET = "secret of the tests, " * 4
#: Tokens that open the API, the channel, the breaking of locks.
T, C, A = "token-of-t", "token-of-c", "token-of-a"
#: Method and path of everything that sees or changes a conversation or the server.
CLOSED = [
    ("GET", "/conversations/anna/tracker"), ("POST", "/conversations/anna/tracker/events"),
    ("PUT", "/conversations/anna/tracker/events"), ("GET", "/conversations/anna/story"),
    ("POST", "/conversations/anna/messages"), ("POST", "/conversations/anna/trigger_intent"),
    ("POST", "/conversations/anna/execute"), ("POST", "/conversations/anna/predict"),
    ("GET", "/conversations/anna/lock"), ("DELETE", "/conversations/anna/lock"),
    ("GET", "/status"), ("GET", "/domain"), ("POST", "/webhooks/rest/webhook"),
]  # fmt: skip
#: The token in the path is the authorization.
OUTCOME = "/webhooks/outcomes/{token}"
OPEN = ["/", "/version", "/health", "/ready", "/webhooks/rest/", "/openapi.json"]


def token(secret: str = SECRET, method: str = "HS256", **user: Any) -> dict[str, str]:
    made = jwt.encode({"user": user}, secret, algorithm=method)
    return {"authorization": f"Bearer {made}"}


async def status(http: httpx.AsyncClient, method: str, path: str, **more: Any) -> int:
    body = {"message": "hi", "sender": "anna"} if method in ("POST", "PUT") else None
    return (await http.request(method, path, json=body, **more)).status_code


@pytest.mark.parametrize(
    "settings",
    [
        {"auth_token": T, "admin_token": A},
        {"jwt_secret": SECRET, "admin_token": A},
        {"auth_token": T, "jwt_secret": SECRET, "channel_token": C, "admin_token": A},
    ],
    ids=["token", "jwt", "all"],
)
async def test_closed_means_closed(settings: dict[str, Any]) -> None:
    """Without a token every endpoint answers 401, webhooks too; health needs none."""
    async with client(**settings) as http:
        for method, path in CLOSED:
            assert await status(http, method, path) == 401, path
            wrong = {"authorization": "Bearer wrong"}
            assert await status(http, method, path, headers=wrong) == 401, path
            assert await status(http, method, path + "?token=wrong") == 401, path
        for path in OPEN:
            assert await status(http, "GET", path) == 200, path


async def test_the_document_names_every_endpoint(run: Callable[..., None]) -> None:
    """The lists above are complete: they are what the OpenAPI document has."""
    async with client(auth_token=T) as http:
        document = (await http.get("/openapi.json")).json()
    found = {
        (method.upper(), path.replace("{conversation_id}", "anna"))
        for path, methods in document["paths"].items()
        for method in methods
        if method != "parameters"
    }
    known = {*CLOSED, *(("GET", path) for path in OPEN)} - {("GET", "/openapi.json")}
    assert found == known | {("GET", OUTCOME), ("DELETE", OUTCOME)}
    assert document["security"] == [{"bearer": []}]


async def test_the_token_opens(run: Callable[..., None]) -> None:
    """As a header or, as documented, in the query; the channel's token opens the channel only."""
    async with client(auth_token="töken-of-t", channel_token=C) as http:
        path = "/conversations/anna/tracker"
        assert await status(http, "GET", path, params={"token": "töken-of-t"}) == 200
        bearer = {"authorization": "Bearer töken-of-t".encode()}
        assert (await http.get(path, headers=bearer)).status_code == 200
        assert await status(http, "GET", f"{path}?token={C}") == 401
        assert await status(http, "POST", f"/webhooks/rest/webhook?token={C}") == 200
        assert await status(http, "POST", "/webhooks/rest/webhook") == 401
    async with client(auth_token=T, open_channels=True) as http:
        assert await status(http, "POST", "/webhooks/rest/webhook") == 200
        bearer_t = {"authorization": f"bearer {T}"}
        assert await status(http, "GET", path, headers=bearer_t) == 200
        assert await status(http, "GET", path) == 401


async def test_roles_of_a_jwt(run: Callable[..., None]) -> None:
    """`admin` may all, `user` only in the conversation of that name, others nothing."""
    async with client(jwt_secret=SECRET) as http:
        path, other = "/conversations/anna/tracker", "/conversations/ben/tracker"
        admin = token(username="root", role="admin")
        anna = token(username="anna", role="user")
        for where in (path, other, "/status"):
            assert await status(http, "GET", where, headers=admin) == 200
        assert await status(http, "GET", path, headers=anna) == 200
        for where in (other, "/status"):
            assert await status(http, "GET", where, headers=anna) == 403
        assert (await send(http, "x", sender="anna")).status_code == 401
        for sender, wanted in (("anna", 200), ("ben", 403)):
            sent = {"message": "x", "sender": sender}
            answer = await http.post("/webhooks/rest/webhook", json=sent, headers=anna)
            assert answer.status_code == wanted
        for strange in (token(username="anna", role="guest"), token(), token(role="user")):
            assert await status(http, "GET", path, headers=strange) == 403


async def test_what_is_no_valid_jwt(run: Callable[..., None]) -> None:
    """Another secret, another method, none at all, expired, no user: none opens anything."""
    user = {"username": "root", "role": "admin"}
    expired = jwt.encode({"user": user, "exp": time.time() - 60}, SECRET)
    unsigned = jwt.encode({"user": user}, None, algorithm="none")
    bad = [
        token("x" * 84, **user), token(method="HS512", **user),
        {"authorization": f"Bearer {expired}"}, {"authorization": f"Bearer {unsigned}"},
        {"authorization": "Bearer a.b.c"}, {"authorization": "Basic eDp5"},
        {"authorization": ""},
    ]  # fmt: skip
    async with client(jwt_secret=SECRET) as http:
        for headers in bad:
            answer = await http.get("/conversations/anna/tracker", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        no_user = {"authorization": "Bearer " + jwt.encode({"user": "root"}, SECRET)}
        assert await status(http, "GET", "/status", headers=no_user) == 403


async def test_only_the_admin_token_breaks_locks(run: Callable[..., None]) -> None:
    """Without one nobody may; a JWT of an admin may not either."""
    path = "/conversations/anna/lock"
    async with client() as http:
        assert await status(http, "DELETE", path) == 403
    async with client(admin_token=A, auth_token=T, jwt_secret=SECRET) as http:
        admin = token(username="root", role="admin")
        assert await status(http, "DELETE", path, headers=admin) == 401
        assert await status(http, "DELETE", f"{path}?token={T}") == 401
        assert await status(http, "DELETE", f"{path}?token={A}") == 404  # nobody holds it


def test_a_key_that_the_method_cannot_use() -> None:
    """It is an error at the start, and does not show the key."""
    with pytest.raises(ConfigurationError, match="RS256") as caught:
        Auth(Settings(jwt_secret="no PEM at all", jwt_method="RS256"))
    assert "no PEM" not in str(caught.value)


def signed(**claims: Any) -> dict[str, str]:
    made = jwt.encode({"user": {"username": "root", "role": "admin"}, **claims}, SECRET)
    return {"authorization": f"Bearer {made}"}


async def test_clocks_may_differ(run: Callable[..., None]) -> None:
    """Made, and valid from, a little in the future; expired a moment ago: ten seconds, or as set."""
    now = time.time()
    async with client(jwt_secret=SECRET) as http:
        for good in ({"iat": now + 1.5}, {"nbf": now + 5}, {"exp": now - 5}):
            assert await status(http, "GET", "/status", headers=signed(**good)) == 200
        for bad in ({"iat": now + 60}, {"nbf": now + 60}, {"exp": now - 60}):
            assert await status(http, "GET", "/status", headers=signed(**bad)) == 401
    async with client(jwt_secret=SECRET, jwt_leeway=0) as http:
        assert await status(http, "GET", "/status", headers=signed(exp=now - 5)) == 401


async def test_jwts_that_live_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """They are accepted, as documented, and the log says so once; or they are refused."""
    async with client(jwt_secret=SECRET) as http:
        mortal = signed(exp=time.time() + 60)
        assert await status(http, "GET", "/status", headers=mortal) == 200
        assert "jwt_require_exp" not in caplog.text
        for _ in range(2):
            assert await status(http, "GET", "/status", headers=signed()) == 200
        assert caplog.text.count("set jwt_require_exp") == 1
    async with client(jwt_secret=SECRET, jwt_require_exp=True) as http:
        assert await status(http, "GET", "/status", headers=signed()) == 401
        assert await status(http, "GET", "/status", headers=mortal) == 200
