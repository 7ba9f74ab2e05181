"""The section `callback` of `endpoints.yml`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..errors import ConfigurationError
from ..settings.keys import Key, declared
from ..settings.section import Section, kind_and_values
from .address import CheckedURL, possible, url_problem
from .signature import secrets_problem


@dataclass(frozen=True)
class CallbackSettings:
    """The keys of the section `callback`. URL and secrets are not in the repr."""

    url: Annotated[
        str | None,
        Key(
            "where replies are posted to, an `http://` or `https://` URL; required",
            check=url_problem,
        ),
    ] = field(default=None, repr=False)
    secrets: Annotated[
        tuple[str, ...],
        Key("secrets that sign each POST by the scheme Standard Webhooks, `whsec_` and base64 of 24 "
            "to 64 bytes; two while one is being replaced. Without them nothing is signed",
            check=secrets_problem),
    ] = field(default=(), repr=False)  # fmt: skip
    body: Annotated[
        Literal["reply", "turn"],
        Key("what is posted: `reply` each reply by itself, as documented; `turn` all replies of a "
            "turn in one, with number, message id and idempotency key"),
    ] = "reply"  # fmt: skip
    allow_private: Annotated[
        bool, Key("the URL may lead to a loopback or private address; never to a link-local one")
    ] = False
    ssl_ca_certs: Annotated[
        str | None, Key("authorities to trust, a PEM file", shown="the system's")
    ] = None
    timeout: Annotated[
        float, Key("seconds for one POST, from the resolution of the name to the end of the answer",
                   low=0.1, high=10),
    ] = 10.0  # fmt: skip
    max_tries: Annotated[
        int,
        Key("attempts after which a delivery becomes a dead letter; until then the conversation's "
            "later replies wait", low=1, high=1000),
    ] = 16  # fmt: skip
    max_pause: Annotated[
        float,
        Key("seconds at most between two attempts; the first pause is 1 s", low=1, high=86400),
    ] = 600.0

    def __post_init__(self) -> None:
        for name, each in declared(CallbackSettings).items():
            value, check = getattr(self, name), each.key.check
            if check is not None and value is not None and (problem := check(value)):
                raise ConfigurationError(f"callback: {name}: {problem}")
        if self.url and not possible(CheckedURL.parse(self.url).host, private=self.allow_private):
            raise ConfigurationError(
                "callback: url: nothing is posted to loopback, private and link-local addresses; "
                "allow_private: true permits loopback and private ones"
            )

    @classmethod
    def from_section(cls, section: Any, where: str = "callback") -> CallbackSettings:
        """Settings from an EndpointConfig or a mapping.

        Raises ConfigurationError.
        """
        kind, given = kind_and_values(section)
        keys = Section(given, where)
        if (kind or "http") != "http":
            raise keys.error("type", f"{kind!r} is not known; the only type is http")
        values = keys.values(cls)
        keys.finish()
        if not values["url"]:
            raise keys.error("url", "is missing")
        try:
            return cls(**values)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {str(error).removeprefix('callback: ')}") from None

    @property
    def address(self) -> str:
        """Scheme, host and port of the URL."""
        return str(CheckedURL.parse(self.url or ""))
