"""Who may do what: tokens and JWTs. Where none is configured, all may but break locks.

As soon as a token or a JWT secret is configured, nothing that touches a conversation is open:
webhooks too want a token or JWT then, unless `open_channels` says otherwise.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Mapping
from typing import Any

import jwt
from starlette.requests import Request

from ..errors import ConfigurationError
from .errors import NotAuthenticated, NotAuthorized
from .settings import Settings

log = logging.getLogger("ticketlock.server")


class Pass:
    """What a request has shown.

    Args:
        payload: of its JWT; None where a token, or nothing, was needed.
    """

    def __init__(self, payload: Mapping[str, Any] | None = None) -> None:
        self._payload = payload

    def speak_for(self, sender_id: str | None) -> None:
        """The documented roles: `admin` may all, `user` only in the conversation of that name.

        Args:
            sender_id: the conversation; None: the server.

        Raises NotAuthorized.
        """
        if self._payload is None:
            return
        user = self._payload.get("user")
        role = user.get("role") if isinstance(user, Mapping) else None
        if role == "admin":
            return
        name = user.get("username") if isinstance(user, Mapping) else None
        if role != "user" or sender_id is None or name != sender_id:
            raise NotAuthorized("the user of this JWT may not do this")


class Auth:
    """Judges requests. Raises ConfigurationError for a key that the JWT method cannot use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = settings.auth_token is not None or settings.jwt_secret is not None
        self._warned = False
        if settings.jwt_secret is not None:
            _try_key(settings)

    def api(self, request: Request, sender_id: str | None = None) -> None:
        """Whether the request may see or change a conversation, or (None) the server.

        Raises NotAuthenticated, NotAuthorized.
        """
        if self._closed:
            self._check(request, (self._settings.auth_token,)).speak_for(sender_id)

    def channel(self, request: Request) -> Pass:
        """Whether the request may send messages; of whom says the pass. It is judged by its head:
        of a stranger's body nothing is read.

        Raises NotAuthenticated.
        """
        settings = self._settings
        closed = self._closed or settings.channel_token is not None
        if not closed or settings.open_channels:
            return Pass()
        return self._check(request, (settings.channel_token, settings.auth_token))

    def admin(self, request: Request) -> None:
        """Whether the request may end others' turns: the admin token alone lets it."""
        if self._settings.admin_token is None:
            raise NotAuthorized("this needs the admin token: set admin_token in the section server")
        self._check(request, (self._settings.admin_token,), jwt_counts=False)

    def page(self, request: Request) -> str:
        """The role that the request has on the operator's page: `operator` or `viewer`.

        Raises NotAuthenticated, NotAuthorized.
        """
        with contextlib.suppress(NotAuthenticated, NotAuthorized):
            self.admin(request)
            return "operator"
        settings = self._settings
        if settings.view_token is None:
            self.api(request)  # as open as the conversations are
        else:
            self._check(request, (settings.view_token, settings.auth_token)).speak_for(None)
        return "viewer"

    def _check(
        self, request: Request, tokens: tuple[str | None, ...], jwt_counts: bool = True
    ) -> Pass:
        bearer = _bearer(request)
        in_query = request.query_params.get("token")
        # A header's bytes come to us as Latin-1, those of a query as UTF-8.
        given = [None if bearer is None else bearer.encode("latin-1")]
        given.append(None if in_query is None else in_query.encode("utf-8", "replace"))
        if any(_equal(one, token) for one in given for token in tokens):
            return Pass()
        if bearer is None or not jwt_counts or self._settings.jwt_secret is None:
            raise NotAuthenticated("a valid token is needed: Authorization: Bearer ...")
        return Pass(self._payload(bearer))

    def _payload(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        assert settings.jwt_secret is not None  # asked before
        try:
            payload = jwt.decode(
                token, settings.jwt_secret, algorithms=[settings.jwt_method],
                leeway=settings.jwt_leeway,
                options={"require": ["exp"] if settings.jwt_require_exp else []},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise NotAuthenticated(f"the JWT is not valid: {error}") from None
        if "exp" not in payload and not self._warned:
            self._warned = True
            log.warning(
                "a JWT without exp was accepted: it is valid for ever; give JWTs an exp, "
                "and set jwt_require_exp"
            )
        return payload


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _equal(given: bytes | None, wanted: str | None) -> bool:
    """Whether they are the same, in a time that does not tell how much of it is right."""
    return given is not None and wanted is not None and hmac.compare_digest(given, wanted.encode())


def _try_key(settings: Settings) -> None:
    try:
        algorithm = jwt.get_algorithm_by_name(settings.jwt_method)
        algorithm.prepare_key(settings.jwt_secret)
    except (NotImplementedError, jwt.PyJWTError, ValueError, TypeError) as error:
        method = settings.jwt_method
        raise ConfigurationError(
            f"server: jwt_secret: is not a valid key for jwt_method {method}: {type(error).__name__} "
            '(asymmetric methods need a public key in PEM, and: pip install "pyjwt[crypto]")'
        ) from None
