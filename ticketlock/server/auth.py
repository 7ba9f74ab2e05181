"""Authorization by tokens and JWTs; without any configured, everything but breaking locks is open.

With a token or a JWT secret, all endpoints of conversations are closed: webhooks need a token or
JWT too, unless `open_channels` is set.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from ..errors import ConfigurationError
from .errors import NotAuthenticated, NotAuthorized
from .settings import Settings

log = logging.getLogger("ticketlock.server")


class Identity:
    """The client of a request.

    Args:
        payload: that of its JWT; None with a token, or if none was needed.
    """

    def __init__(self, payload: Mapping[str, Any] | None = None) -> None:
        self._payload = payload

    def authorize(self, sender_id: str | None) -> None:
        """Check the documented roles: `admin` has all rights, `user` those of its conversation.

        Args:
            sender_id: the conversation; None: the whole server.

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
    """Authorizes requests. Raises ConfigurationError if the key does not fit the JWT method."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = settings.auth_token is not None or settings.jwt_secret is not None
        self._warned = False
        if settings.jwt_secret is not None:
            _try_key(settings)

    def api(self, request: Request, sender_id: str | None = None) -> None:
        """Check that the request may read or change a conversation, or (None) the server.

        Raises NotAuthenticated, NotAuthorized.
        """
        if self._closed:
            self._check(request, (self._settings.auth_token,)).authorize(sender_id)

    def channel(self, request: Request) -> Identity:
        """Check that the request may send messages, before its body is read.

        Returns its identity, for `Identity.authorize`. Raises NotAuthenticated.
        """
        settings = self._settings
        closed = self._closed or settings.channel_token is not None
        if not closed or settings.open_channels:
            return Identity()
        return self._check(request, (settings.channel_token, settings.auth_token))

    def admin(self, request: Request) -> None:
        """Check that the request may break turns, which needs the admin token."""
        if self._settings.admin_token is None:
            raise NotAuthorized("this needs the admin token: set admin_token in the section server")
        self._check(request, (self._settings.admin_token,), jwt_counts=False)

    def page(self, request: Request) -> str:
        """The role of the request on the operator's page: `operator` or `viewer`.

        Raises NotAuthenticated, NotAuthorized.
        """
        with contextlib.suppress(NotAuthenticated, NotAuthorized):
            self.admin(request)
            return "operator"
        settings = self._settings
        if settings.view_token is None:
            self.api(request)  # the same rights as for conversations
        else:
            self._check(request, (settings.view_token, settings.auth_token)).authorize(None)
        return "viewer"

    def _check(
        self, request: Request, tokens: tuple[str | None, ...], jwt_counts: bool = True
    ) -> Identity:
        bearer = _bearer(request)
        in_query = request.query_params.get("token")
        # Headers are decoded as Latin-1, the query as UTF-8.
        given = [None if bearer is None else bearer.encode("latin-1")]
        given.append(None if in_query is None else in_query.encode("utf-8", "replace"))
        if any(_equal(one, token) for one in given for token in tokens):
            return Identity()
        if bearer is None or not jwt_counts or self._settings.jwt_secret is None:
            raise NotAuthenticated("a valid token is needed: Authorization: Bearer ...")
        return Identity(self._payload(bearer))

    def _payload(self, token: str) -> Mapping[str, Any]:
        import jwt

        settings = self._settings
        assert settings.jwt_secret is not None  # checked before
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
    """Whether they are equal, compared in constant time."""
    return given is not None and wanted is not None and hmac.compare_digest(given, wanted.encode())


def _try_key(settings: Settings) -> None:
    import jwt  # it brings cryptography, which most servers do not need

    try:
        algorithm = jwt.get_algorithm_by_name(settings.jwt_method)
        algorithm.prepare_key(settings.jwt_secret)
    except (NotImplementedError, jwt.PyJWTError, ValueError, TypeError) as error:
        method = settings.jwt_method
        raise ConfigurationError(
            f"server: jwt_secret: is not a valid key for jwt_method {method}: {type(error).__name__} "
            '(asymmetric methods need a public key in PEM, and: pip install "pyjwt[crypto]")'
        ) from None
