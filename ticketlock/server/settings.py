"""The `server` section of `endpoints.yml`, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..endpoints import EndpointConfig
from ..errors import ConfigurationError
from ..redis_settings import endpoint_values
from ..settings import Section
from .tokens import weakness

#: What a second message does while the first one is being handled.
POLICIES = ("enqueue", "reject", "coalesce", "interrupt", "rollback")

_HOST = re.compile(r"[A-Za-z0-9._-]+")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s@?#]+", re.IGNORECASE)

#: Keys whose values are not to be guessed.
SECRETS = ("auth_token", "jwt_secret", "channel_token", "admin_token")

#: Ways to sign a JWT. `none` is not among them.
JWT_METHODS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How the server behaves. Secrets do not show in the repr.

    Attributes:
        double_texting: what a message does while another one of its conversation is being
            handled: `enqueue` waits for its turn; `reject` answers 409; `coalesce` waits, and
            what waits together is handled in one turn; `interrupt` asks the turns before it to
            stop, they keep what they have; `rollback` does too, they leave nothing.
        message_window: seconds for which a message id that comes again gets the first reply.
        max_waiting: most messages that may wait for one conversation; more get 429.
        max_duplicates: most requests of one message that may wait for its reply here; more: 429.
        max_turns: most turns that run and wait here, whoever still waits for them; more get 503.
        max_connections: most connections; of `ticketlock run` alone.
        head_timeout: seconds in which a request's head must have come; of `ticketlock run` alone.
        max_attempts: how often the bot is given the same message, as long as its turns fail or
            are too slow; then it is answered 409.
        session_expiration_time: minutes since the user's last message after which the next one
            starts a session; 0: none does for that.
        carry_over_slots: a session begins with the slots of the one before.
        max_session_events, max_session_bytes: events, and bytes of their JSON, after which a
            session is long: the next turn starts another one, with slots, loop and pause carried.
        request_timeout: seconds after which a request is answered 504; its turn goes on.
        lock_lifetime: seconds that a turn may last; None: the lock store's default.
        max_body: bytes of a request body; more get 413.
        max_text, max_values, max_depth: characters of one text in a body (and of a message's
            metadata, and of its parse_data, as JSON), values and nesting of a body; more get 413.
        body_budget: bytes of all bodies that are being read or handled; more get 503. The first
            16 KiB of each are free.
        signed_body_budget: the same of bodies that must be read before it is known who sent them.
        body_timeout: seconds in which the whole body must have come.
        drain_timeout: seconds that turns have to end when the server is told to end.
        auth_token: opens the conversations' endpoints.
        jwt_secret, jwt_method: check of JWTs; with an asymmetric method the public key.
        jwt_leeway: seconds by which the clock of whoever makes JWTs may differ from ours.
        jwt_require_exp: refuse JWTs that never expire.
        channel_token: opens the webhooks, and nothing else.
        admin_token: opens the breaking of locks, which nothing else does.
        open_channels: webhooks need no token although other endpoints do.
        allowed_hosts: names that the server answers to; empty: any, but `ticketlock run` on an
            address of this machine alone answers to `localhost` and to addresses only.
        cors_origins: web pages that may use it from a browser, `https://example.com`; `*`: any.
    """

    double_texting: str = "enqueue"
    message_window: float = 600.0
    max_waiting: int = 100
    request_timeout: float = 60.0
    lock_lifetime: float | None = None
    max_body: int = 1024 * 1024
    body_timeout: float = 10.0
    drain_timeout: float = 20.0
    auth_token: str | None = field(default=None, repr=False)
    jwt_secret: str | None = field(default=None, repr=False)
    jwt_method: str = "HS256"
    channel_token: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
    open_channels: bool = False
    max_duplicates: int = 10
    max_turns: int = 2000
    max_connections: int = 4096
    head_timeout: float = 10.0
    max_text: int = 64 * 1024
    max_values: int = 20_000
    max_depth: int = 64
    body_budget: int = 64 * 1024 * 1024
    signed_body_budget: int = 8 * 1024 * 1024
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    jwt_leeway: float = 10.0
    jwt_require_exp: bool = False
    max_attempts: int = 5
    session_expiration_time: float = 60.0
    carry_over_slots: bool = True
    max_session_events: int = 1000
    max_session_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if self.double_texting not in POLICIES:
            raise ConfigurationError(f"double_texting: {self.double_texting!r} is no policy")
        for key in SECRETS:
            secret = getattr(self, key)
            if secret is not None and (problem := weakness(secret)):
                raise ConfigurationError(f"{key}: {problem}")

    @classmethod
    def from_section(cls, section: Any = None, where: str = "server") -> Settings:
        """From an EndpointConfig, a mapping, or None for the defaults.

        Raises ConfigurationError.
        """
        if section is None:
            return cls()
        if isinstance(section, Mapping):
            section = EndpointConfig(**section)
        keys = Section(endpoint_values(section), where)
        if (section.type or "http") != "http":
            raise keys.error("type", f"{section.type!r} is not http, the only type there is")
        lifetime = keys.number("lock_lifetime", None, low=0.1, high=1e6)
        made = cls(
            double_texting=keys.choice("double_texting", POLICIES, cls.double_texting),
            message_window=keys.number("message_window", cls.message_window, low=1, high=1e6),
            max_waiting=keys.integer("max_waiting", cls.max_waiting, low=1),
            max_duplicates=keys.integer("max_duplicates", cls.max_duplicates, low=1),
            max_turns=keys.integer("max_turns", cls.max_turns, low=1),
            max_connections=keys.integer("max_connections", cls.max_connections, low=1),
            head_timeout=keys.number("head_timeout", cls.head_timeout, low=0.1, high=1e6),
            max_attempts=keys.integer("max_attempts", cls.max_attempts, low=1),
            session_expiration_time=keys.number(
                "session_expiration_time", cls.session_expiration_time, low=0, high=1e9
            ),
            carry_over_slots=keys.flag("carry_over_slots", cls.carry_over_slots),
            max_session_events=keys.integer("max_session_events", cls.max_session_events, low=10),
            max_session_bytes=keys.integer("max_session_bytes", cls.max_session_bytes, low=1024),
            request_timeout=keys.number("request_timeout", cls.request_timeout, low=0.1, high=1e6),
            lock_lifetime=lifetime,
            max_body=keys.integer("max_body", cls.max_body, low=1024),
            max_text=keys.integer("max_text", cls.max_text, low=1),
            max_values=keys.integer("max_values", cls.max_values, low=10),
            max_depth=keys.integer("max_depth", cls.max_depth, low=2, high=500),
            body_budget=keys.integer("body_budget", cls.body_budget, low=1024),
            signed_body_budget=keys.integer("signed_body_budget", cls.signed_body_budget, low=1024),
            body_timeout=keys.number("body_timeout", cls.body_timeout, low=0.1, high=1e6),
            drain_timeout=keys.number("drain_timeout", cls.drain_timeout, low=0, high=1e6),
            auth_token=_secret(keys, "auth_token"),
            jwt_secret=_secret(keys, "jwt_secret"),
            jwt_method=_method(keys),
            jwt_leeway=keys.number("jwt_leeway", cls.jwt_leeway, low=0, high=3600),
            jwt_require_exp=keys.flag("jwt_require_exp"),
            channel_token=_secret(keys, "channel_token"),
            admin_token=_secret(keys, "admin_token"),
            open_channels=keys.flag("open_channels"),
            allowed_hosts=_names(keys, "allowed_hosts", _HOST, "a host's name, without a port"),
            cors_origins=_names(keys, "cors_origins", _ORIGIN, "an origin: https://example.com"),
        )
        keys.finish()
        if made.open_channels and made.channel_token is not None:
            raise keys.error("open_channels", "contradicts channel_token: leave one of them out")
        return made


def _secret(keys: Section, key: str) -> str | None:
    secret = keys.text(key, None)
    # Also of `${TOKEN:-}`: what was meant to be closed would stand open.
    if secret is not None and (problem := weakness(secret)):
        raise keys.error(key, problem)
    return secret


def _names(keys: Section, key: str, form: re.Pattern[str], wanted: str) -> tuple[str, ...]:
    """A list of texts, or one text with commas."""
    names = [name.strip() for text in keys.texts(key) for name in text.split(",") if name.strip()]
    for name in names:
        if not form.fullmatch(name):
            raise keys.error(key, f"{name!r} is not {wanted}")
    return tuple(names)


def _method(keys: Section) -> str:
    known = {method.lower(): method for method in JWT_METHODS}
    return known[keys.choice("jwt_method", known, Settings.jwt_method)]
