"""The keys of a Kafka section, checked once, and what they are called in librdkafka."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ticketlock.settings import Section

from ._worker import QUEUE_SIZE

log = logging.getLogger("ticketlock")

#: Keys of the section, in the order of the README's table.
KAFKA_KEYS = (
    "url", "topic", "client_id", "partition_by_sender", "security_protocol", "sasl_mechanism",
    "sasl_username", "sasl_password", "sasl_oauthbearer_token_endpoint_url", "oauth_cb",
    "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "queue_size",
    "socket_keepalive_enable", "reconnect_backoff_ms", "reconnect_backoff_max_ms",
    "topic_metadata_refresh_interval_ms",
)  # fmt: skip

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("plain", "gssapi", "oauthbearer", "scram-sha-256", "scram-sha-512")

#: Bytes of the largest message that is offered to the server, which has its own, lower limit.
LARGEST_MESSAGE = 64 * 2**20

#: Bytes of one record batch. Small, because a server refuses a batch that is larger than its
#: limit for messages as a whole: above this size a message is alone in its batch.
RECORD_BATCH = 64 * 2**10


@dataclass(frozen=True)
class KafkaSettings:
    """Checked settings of one Kafka cluster. Secrets do not show in the repr.

    Attributes:
        servers: `host:port,...` to start from.
        partition_by_sender: the conversation is the key of its messages.
        queue_size: most events that wait in memory, and in the driver.
    """

    servers: str
    topic: str = "rasa_core_events"
    client_id: str | None = None
    partition_by_sender: bool = True
    security_protocol: str = "sasl_plaintext"
    sasl_mechanism: str = "plain"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    token_url: str | None = None
    oauth_cb: Callable[[str], Any] | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool = False
    queue_size: int | None = None
    keepalive: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, section: Section) -> KafkaSettings:
        """Take all keys out of `section` and finish it. Raises ConfigurationError."""
        servers = ",".join(section.texts("url"))
        if not servers:
            raise section.error("url", "is missing: the servers as host:port, with commas between")
        topic = section.text("topic", "rasa_core_events")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic) or topic in (".", ".."):
            raise section.error("topic", f"{topic!r} is no name that Kafka takes for a topic")
        settings = cls(
            servers=servers,
            topic=topic,
            client_id=section.text("client_id", None),
            partition_by_sender=section.flag("partition_by_sender", True),
            security_protocol=section.choice("security_protocol", PROTOCOLS, "sasl_plaintext"),
            sasl_mechanism=section.choice("sasl_mechanism", MECHANISMS, "plain"),
            sasl_username=section.text("sasl_username", None),
            sasl_password=section.text("sasl_password", None),
            token_url=section.text("sasl_oauthbearer_token_endpoint_url", None),
            oauth_cb=section.raw("oauth_cb"),
            ssl_cafile=_file(section, "ssl_cafile"),
            ssl_certfile=_file(section, "ssl_certfile"),
            ssl_keyfile=_file(section, "ssl_keyfile"),
            ssl_check_hostname=section.flag("ssl_check_hostname", False),
            queue_size=section.integer("queue_size", None, 1, 10_000_000),
            keepalive=_keepalive(section),
        )
        section.finish()
        settings._check(section)
        if settings.security_protocol.endswith("ssl") and not settings.ssl_check_hostname:
            log.warning(
                "%s: ssl_check_hostname is false, which is its documented default: any server with "
                "a certificate of that authority is trusted; set it to true", section.where,
            )  # fmt: skip
        return settings

    def _check(self, section: Section) -> None:
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            lacking = "ssl_keyfile" if self.ssl_certfile else "ssl_certfile"
            raise section.error(lacking, "is missing: a certificate and its key go together")
        if self.oauth_cb is not None and not callable(self.oauth_cb):
            raise section.error("oauth_cb", "is not callable")
        if not self.security_protocol.startswith("sasl") or self.sasl_mechanism == "gssapi":
            return
        if self.sasl_mechanism == "oauthbearer" and self.oauth_cb is not None:
            return
        if self.sasl_mechanism == "oauthbearer" and not self.token_url:
            raise section.error(
                "sasl_oauthbearer_token_endpoint_url",
                "is missing: where tokens are had for sasl_username and sasl_password; "
                "in Python, oauth_cb is the other way",
            )
        for key in ("sasl_username", "sasl_password"):
            if not getattr(self, key):
                raise section.error(
                    key,
                    f"is missing: {self.security_protocol.upper()} with "
                    f"{self.sasl_mechanism.upper()} logs in; without a login, security_protocol "
                    "is PLAINTEXT or SSL",
                )

    def config(self) -> dict[str, Any]:
        """librdkafka's configuration of a producer that keeps order and waits for all replicas."""
        return {
            "enable.idempotence": True,  # no repeats and no swaps when it tries again
            "message.timeout.ms": 0,  # we keep the time: it must end for all at once
            "message.max.bytes": LARGEST_MESSAGE,
            "batch.size": RECORD_BATCH,
            "linger.ms": 1,
            "queue.buffering.max.messages": self.queue_size or 10 * QUEUE_SIZE,
            "topic.metadata.propagation.max.ms": 3000,
            **self.connection(),
        }

    def connection(self) -> dict[str, Any]:
        """The part that any client needs: where the servers are, and how to log in."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "client.id": self.client_id,
            "log_level": 0,  # it writes to stderr; what matters comes by callback too
            "security.protocol": self.security_protocol.upper(),
            "reconnect.backoff.max.ms": 1000,
            **self.keepalive,
        }
        if self.security_protocol.startswith("sasl"):
            config |= self._sasl()
        if self.security_protocol.endswith("ssl"):
            config |= {
                "ssl.ca.location": self.ssl_cafile,
                "ssl.certificate.location": self.ssl_certfile,
                "ssl.key.location": self.ssl_keyfile,
                "ssl.endpoint.identification.algorithm": (
                    "https" if self.ssl_check_hostname else "none"
                ),
            }
        return {key: value for key, value in config.items() if value is not None}

    def _sasl(self) -> dict[str, Any]:
        mechanism = {"sasl.mechanism": self.sasl_mechanism.upper()}
        if self.sasl_mechanism == "gssapi":
            return {**mechanism, "sasl.username": self.sasl_username}
        if self.sasl_mechanism != "oauthbearer":
            login = {"sasl.username": self.sasl_username, "sasl.password": self.sasl_password}
            return {**mechanism, **login}
        if self.oauth_cb is not None:
            return {**mechanism, "oauth_cb": self.oauth_cb}
        return {
            **mechanism,
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": self.sasl_username,
            "sasl.oauthbearer.client.secret": self.sasl_password,
            "sasl.oauthbearer.token.endpoint.url": self.token_url,
        }


def _file(section: Section, key: str) -> str | None:
    path = section.text(key, None)
    if path is not None and not os.access(path, os.R_OK):
        raise section.error(key, f"{path!r} cannot be read")
    return path


def _keepalive(section: Section) -> dict[str, Any]:
    """What only counts where `socket_keepalive_enable` is on, with its documented values."""
    on = section.flag("socket_keepalive_enable", False)
    numbers = {
        "reconnect.backoff.ms": section.integer("reconnect_backoff_ms", 1000, 0, 3_600_000),
        "reconnect.backoff.max.ms": section.integer(
            "reconnect_backoff_max_ms", 10_000, 0, 3_600_000
        ),
        "topic.metadata.refresh.interval.ms": section.integer(
            "topic_metadata_refresh_interval_ms", 300_000, -1, 3_600_000
        ),
    }
    return {"socket.keepalive.enable": True, **numbers} if on else {}
