"""The section `action_endpoint` of `endpoints.yml`, checked."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlencode

from ..deliveries.address import CheckedURL, url_problem
from ..errors import ConfigurationError
from ..settings.keys import Key
from ..settings.section import FALSE, Section, kind_and_values

#: The documented variable: whether the body of a call is compressed.
COMPRESS = "COMPRESS_ACTION_SERVER_REQUEST"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that a call sets itself.
_OURS = (
    "host", "content-length", "content-encoding", "transfer-encoding", "connection",
    "idempotency-key", "content-type",
)  # fmt: skip


def _headers(given: Mapping[str, str]) -> str | None:
    for name, value in given.items():
        if not _TOKEN.fullmatch(name):
            return f"{name!r:.80} is not the name of a header"
        if name.lower() in _OURS or name.lower().startswith("ticketlock-"):
            return f"{name} is set by each call: leave it out"
        if not value.isascii() or not value.isprintable() or value != value.strip():
            return f"the value of {name} has characters that a header cannot have"
    return None


def _basic_auth(given: Mapping[str, str]) -> str | None:
    if given.keys() == {"username", "password"}:
        return None
    return "has not exactly the keys username and password"


def _compresses() -> bool:
    return os.environ.get(COMPRESS, "false").strip().lower() not in (*FALSE, "")


@dataclass(frozen=True)
class ActionSettings:
    """The keys of the section `action_endpoint`. What may be secret is not in the repr."""

    url: Annotated[
        str | None,
        Key(
            "where actions are called, as `http://localhost:5055/webhook`; required",
            check=url_problem,
        ),
    ] = field(default=None, repr=False)
    token: Annotated[
        str | None, Key("secret that is added to the query of the URL, as documented")
    ] = field(default=None, repr=False)
    token_name: Annotated[str, Key("its name in the query")] = "token"
    params: Annotated[
        Mapping[str, str] | None, Key("names and values that are added to the query")
    ] = field(default=None, repr=False)
    headers: Annotated[
        Mapping[str, str] | None,
        Key("headers of each call, as `Authorization: Bearer ${TOKEN}`", check=_headers),
    ] = field(default=None, repr=False)
    basic_auth: Annotated[
        Mapping[str, str] | None, Key("`username` and `password`", check=_basic_auth)
    ] = field(default=None, repr=False)
    cafile: Annotated[str | None, Key("authorities to trust, a PEM file", shown="the system's")] = (
        None
    )
    certfile: Annotated[
        str | None, Key("certificate that this client shows, a PEM file, with its key or `keyfile`")
    ] = None
    keyfile: Annotated[str | None, Key("key of `certfile`, a PEM file")] = None
    timeout: Annotated[
        float,
        Key("seconds for one call, from the resolution of the name to the end of the answer; of a "
            "longer one `lock_lifetime` has to allow for it", low=0.1, high=3600),
    ] = 30.0  # fmt: skip
    retry_for: Annotated[
        float,
        Key("seconds for which a call is tried again if it was certainly not made: the name was "
            "not found, or the connection was refused; 0: never", low=0, high=600),
    ] = 5.0  # fmt: skip
    max_response: Annotated[
        int, Key("bytes of an answer, with its head; a larger one is an error", low=1024)
    ] = 4 * 1024 * 1024
    enable_selective_domain: Annotated[
        bool,
        Key(
            "the domain is sent only to the actions that the domain lists with `send_domain: true`"
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.keyfile and not self.certfile:
            raise ConfigurationError("action_endpoint: keyfile: certfile is missing")

    @classmethod
    def from_section(cls, section: Any, where: str = "action_endpoint") -> ActionSettings:
        """Settings from an EndpointConfig or a mapping.

        Raises ConfigurationError.
        """
        kind, given = kind_and_values(section)
        keys = Section(given, where)
        if (kind or "http").lower() != "http":
            raise keys.error("type", f"{kind!r} is not known; the only type is http")
        values = keys.values(cls)
        keys.finish()
        if not values["url"]:
            raise keys.error("url", "is missing")
        return cls(**values)

    @property
    def address(self) -> str:
        """Scheme, host and port of the URL."""
        return str(CheckedURL.parse(self.url or ""))

    @property
    def compress(self) -> bool:
        """Whether `COMPRESS_ACTION_SERVER_REQUEST` asks for compressed bodies."""
        return _compresses()

    def target(self) -> CheckedURL:
        """The URL with token, parameters and login."""
        query = dict(self.params or {})
        if self.token:
            query[self.token_name] = self.token
        url = self.url or ""
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        return CheckedURL.parse(url)

    def context(self) -> ssl.SSLContext | None:
        """For TLS; None: the system's. Raises ConfigurationError."""
        if self.cafile is None and self.certfile is None:
            return None
        context, key = ssl.create_default_context(), "cafile"
        try:
            if self.cafile is not None:
                context = ssl.create_default_context(cafile=self.cafile)
            if self.certfile is not None:
                key = "certfile"
                context.load_cert_chain(self.certfile, self.keyfile, password=_no_password)
        except OSError as error:  # ssl.SSLError among them
            path = self.cafile if key == "cafile" else self.certfile
            why = error.strerror
            if isinstance(error, ssl.SSLError):
                why = (
                    "has no certificate" if key == "cafile" else "is not a certificate with its key"
                )
            raise ConfigurationError(f"{key}: {path}: {why}") from None
        return context


def _no_password() -> str:
    """Instead of a question on the terminal, which would stop the process."""
    return ""
