"""The `server` section of `endpoints.yml`, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..endpoints.file import EndpointConfig
from ..errors import ConfigurationError
from ..settings.keys import Key, declared
from ..settings.section import Section, endpoint_values
from .double_texting import POLICIES, Policy
from .engines import Http, Loop
from .tokens import weakness

#: Algorithms of JWTs, without `none`.
JWTMethod = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip

_HOST = re.compile(r"[A-Za-z0-9._-]+")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s@?#]+", re.IGNORECASE)


def _secret(meaning: str) -> Key:
    # An empty value, as from `${TOKEN:-}`, is checked too: it would leave the server open.
    return Key(meaning, check=weakness)


@dataclass(frozen=True)
class Settings:
    """The keys of the section `server`, each with its meaning and unit.

    docs/reference/endpoints.md has them as a table. Secrets are not in the repr.
    """

    double_texting: Annotated[
        Policy,
        Key("what a message does while another one of its conversation is being handled: "
            "`enqueue` waits for its turn; `reject` is answered 409; `coalesce` waits, and messages "
            "that wait together are handled in one turn; `interrupt` asks the turns before it to "
            "stop, and what they have said is stored; `rollback` does too, and nothing of them "
            "is stored"),
    ] = "enqueue"  # fmt: skip
    message_window: Annotated[
        float,
        Key("seconds in which a repeated message id gets the first reply",
            low=1, high=1e6),
    ] = 600.0  # fmt: skip
    max_waiting: Annotated[
        int,
        Key(
            "how many messages may wait for one conversation; more get 429",
            low=1,
            high=999_999_999,
        ),
    ] = 100
    request_timeout: Annotated[
        float,
        Key("seconds after which a request is answered 504; its turn continues", low=0.1, high=1e6),
    ] = 60.0
    lock_lifetime: Annotated[
        float | None,
        Key("seconds that a turn may last", low=0.1, high=1e6,
            shown="`TICKET_LOCK_LIFETIME`, or 60"),
    ] = None  # fmt: skip
    max_body: Annotated[int, Key("bytes of a request body; more get 413", low=1024)] = 1024 * 1024
    body_timeout: Annotated[
        float, Key("seconds in which the whole body must arrive", low=0.1, high=1e6)
    ] = 10.0
    drain_timeout: Annotated[
        float,
        Key("seconds that running turns have to end after SIGTERM", low=0, high=1e6),
    ] = 20.0
    auth_token: Annotated[str | None, _secret("token that opens the conversations' endpoints")] = (
        field(default=None, repr=False)
    )
    jwt_secret: Annotated[
        str | None,
        _secret("secret of JWTs, with an asymmetric `jwt_method` the public key"),
    ] = field(default=None, repr=False)
    jwt_method: Annotated[JWTMethod, Key("how JWTs are signed")] = "HS256"
    channel_token: Annotated[
        str | None, _secret("token that opens the webhooks, and nothing else")
    ] = field(default=None, repr=False)
    admin_token: Annotated[
        str | None,
        _secret(
            "token for the operator's page with all its actions, and for breaking locks; "
            "without it locks cannot be broken over HTTP"
        ),
    ] = field(default=None, repr=False)
    open_channels: Annotated[bool, Key("webhooks need no token although other endpoints do")] = (
        False
    )
    max_duplicates: Annotated[
        int,
        Key("how many requests may wait here for the reply of one message; more get 429", low=1),
    ] = 10
    max_turns: Annotated[
        int,
        Key("how many turns may run and wait here, those of clients that left too; more get 503",
            low=1),
    ] = 2000  # fmt: skip
    max_connections: Annotated[
        int, Key("how many connections; only for `ticketlock run`", low=1)
    ] = 4096
    head_timeout: Annotated[
        float,
        Key("seconds in which a request's head must arrive; only for `ticketlock run`",
            low=0.1, high=1e6),
    ] = 10.0  # fmt: skip
    max_text: Annotated[
        int,
        Key("characters of one text in a body (and of a message's metadata, and of its "
            "parse_data, as JSON); more get 413", low=1),
    ] = 64 * 1024  # fmt: skip
    max_values: Annotated[int, Key("values in a body; more get 413", low=10)] = 20_000
    max_depth: Annotated[int, Key("nesting of a body; more gets 413", low=2, high=500)] = 64
    body_budget: Annotated[
        int,
        Key("bytes of all bodies that are being read or handled; more get 503. The first 16 KiB "
            "of each are free", low=1024),
    ] = 64 * 1024 * 1024  # fmt: skip
    signed_body_budget: Annotated[
        int,
        Key("the same for bodies that must be read before their signature is checked", low=1024),
    ] = 8 * 1024 * 1024
    allowed_hosts: Annotated[
        tuple[str, ...],
        Key("host names that the server accepts, a list or with commas; empty: any name, but only "
            "`localhost` and IP addresses if `ticketlock run` listens for this machine alone"),
    ] = ()  # fmt: skip
    cors_origins: Annotated[
        tuple[str, ...],
        Key("web pages that may use it from a browser, a list or with commas of "
            "`https://example.com`; `*`: any"),
    ] = ()  # fmt: skip
    jwt_leeway: Annotated[
        float,
        Key("seconds by which the clock of the JWT issuer may differ from ours",
            low=0, high=3600),
    ] = 10.0  # fmt: skip
    jwt_require_exp: Annotated[bool, Key("refuse JWTs that never expire")] = False
    max_attempts: Annotated[
        int,
        Key("how often the bot is called with a message whose turns fail or are too slow; after "
            "that it is a dead letter, and answered 409", low=1),
    ] = 5  # fmt: skip
    session_expiration_time: Annotated[
        float | None,
        Key("minutes since the user's last message after which the next one starts a new session; "
            "0: never", low=0, high=1e9, shown="that of the domain, or 60"),
    ] = None  # fmt: skip
    carry_over_slots: Annotated[
        bool | None,
        Key("a session begins with the slots of the one before",
            shown="that of the domain, or true"),
    ] = None  # fmt: skip
    max_session_events: Annotated[
        int,
        Key("events after which the next turn starts a new session, which keeps slots, loop and "
            "pause", low=10),
    ] = 1000  # fmt: skip
    max_session_bytes: Annotated[
        int, Key("the same in bytes of the events' JSON, to which each value adds 16", low=1024)
    ] = 1024 * 1024
    view_token: Annotated[
        str | None,
        _secret("token for reading the operator's page; if it is set, the page needs a token"),
    ] = field(default=None, repr=False)  # fmt: skip
    max_events: Annotated[
        int, Key("events in a body for `tracker/events`; more get 413", low=1)
    ] = 1000
    max_event: Annotated[
        int, Key("characters of the JSON of one event in such a body; more get 413", low=1024)
    ] = 256 * 1024
    retry_time: Annotated[
        float,
        Key("seconds that all pauses together take at most before a message that no sender waits "
            "for is tried again", low=0, high=60),
    ] = 10.0  # fmt: skip
    outcome_secret: Annotated[
        str | None,
        _secret(
            "secret that signs the addresses of outcomes; default: made of another token, or "
            "kept in the Redis of the locks"
        ),
    ] = field(default=None, repr=False)
    domain: Annotated[
        str | None,
        Key(
            "file or folder of the bot's domain; a relative path begins at the folder of this file"
        ),
    ] = None

    http: Annotated[
        Http,
        Key("parser of requests: `h11`, or `httptools`, which is several times as fast; `auto`: "
            "httptools where it is installed. Only for `ticketlock run`"),
    ] = "auto"  # fmt: skip
    loop: Annotated[
        Loop,
        Key("event loop: `asyncio`, or `uvloop`; `auto`: uvloop where it is installed. Only for "
            "`ticketlock run` and `ticketlock worker`"),
    ] = "auto"  # fmt: skip

    def __post_init__(self) -> None:
        if self.double_texting not in POLICIES:
            raise ConfigurationError(
                f"double_texting: {self.double_texting!r} is not one of {', '.join(POLICIES)}"
            )
        for name, each in declared(Settings).items():
            value, check = getattr(self, name), each.key.check
            if check is not None and value is not None and (problem := check(value)):
                raise ConfigurationError(f"{name}: {problem}")

    @classmethod
    def from_section(cls, section: Any = None, where: str = "server") -> Settings:
        """Settings from an EndpointConfig, a mapping, or None for the defaults.

        Raises ConfigurationError.
        """
        if section is None:
            return cls()
        if isinstance(section, Mapping):
            section = EndpointConfig(**section)
        keys = Section(endpoint_values(section), where)
        if (section.type or "http") != "http":
            raise keys.error("type", f"{section.type!r} is not known; the only type is http")
        values = keys.values(cls)
        keys.finish()
        made = cls(
            **{
                **values,
                "allowed_hosts": _names(
                    keys, "allowed_hosts", values, _HOST, "a host's name, without a port"
                ),
                "cors_origins": _names(
                    keys, "cors_origins", values, _ORIGIN, "an origin: https://example.com"
                ),
            }
        )
        if made.open_channels and made.channel_token is not None:
            raise keys.error("open_channels", "contradicts channel_token: leave one of them out")
        return made


def _names(
    section: Section, key: str, values: Mapping[str, Any], form: re.Pattern[str], wanted: str
) -> tuple[str, ...]:
    """A list of texts, or one text with commas."""
    names = [name.strip() for text in values[key] for name in text.split(",") if name.strip()]
    for name in names:
        if not form.fullmatch(name):
            raise section.error(key, f"{name!r} is not {wanted}")
    return tuple(names)
