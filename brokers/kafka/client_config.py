"""The configuration of librdkafka, made of a section whose keys are in `settings/broker_keys.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ticketlock.settings.broker_keys import KafkaKeys
from ticketlock.settings.section import Section

from ..threaded import QUEUE_SIZE

log = logging.getLogger("ticketlock.brokers")

#: Bytes of the largest message that is sent; the server has its own, lower limit.
LARGEST_MESSAGE = 64 * 2**20

#: Bytes of a record batch. It is small because a server refuses a whole batch that exceeds its
#: limit for messages. A message above this size is alone in its batch.
RECORD_BATCH = 64 * 2**10


@dataclass(frozen=True)
class KafkaSettings:
    """Checked settings of one Kafka cluster. Secrets do not show in the repr.

    Attributes:
        servers: `host:port,...` of the first servers to connect to.
        partition_by_sender: whether the conversation id is the key of a message.
        queue_size: limit of the events that wait in memory, and in the driver.
    """

    servers: str
    topic: str
    client_id: str | None
    partition_by_sender: bool
    security_protocol: str
    sasl_mechanism: str
    sasl_username: str | None
    sasl_password: str | None = field(repr=False)
    token_url: str | None
    oauth_cb: Callable[[str], Any] | None
    ssl_cafile: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_check_hostname: bool
    queue_size: int | None
    keepalive: dict[str, Any]

    @classmethod
    def read(cls, section: Section) -> KafkaSettings:
        """Read all keys of `section` and finish it. Raises ConfigurationError."""
        keys = section.read(KafkaKeys)
        servers = ",".join(keys["url"])
        if not servers:
            raise section.error("url", "is missing: the servers as host:port, with commas between")
        settings = cls(
            servers=servers,
            topic=keys["topic"],
            client_id=keys["client_id"],
            partition_by_sender=keys["partition_by_sender"],
            security_protocol=keys["security_protocol"],
            sasl_mechanism=keys["sasl_mechanism"],
            sasl_username=keys["sasl_username"],
            sasl_password=keys["sasl_password"],
            token_url=keys["sasl_oauthbearer_token_endpoint_url"],
            oauth_cb=keys["oauth_cb"],
            ssl_cafile=keys["ssl_cafile"],
            ssl_certfile=keys["ssl_certfile"],
            ssl_keyfile=keys["ssl_keyfile"],
            ssl_check_hostname=keys["ssl_check_hostname"],
            queue_size=keys["queue_size"],
            keepalive=_keepalive(keys),
        )
        section.finish()
        settings._check(section)
        if settings.security_protocol.endswith("SSL") and not settings.ssl_check_hostname:
            log.warning(
                "%s: ssl_check_hostname is false, which is its documented default: any server with "
                "a certificate of that authority is trusted; set it to true", section.where,
            )  # fmt: skip
        return settings

    def _check(self, section: Section) -> None:
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            lacking = "ssl_keyfile" if self.ssl_certfile else "ssl_certfile"
            raise section.error(lacking, "is missing: a certificate and its key go together")
        if not self.security_protocol.startswith("SASL") or self.sasl_mechanism == "GSSAPI":
            return
        if self.sasl_mechanism == "OAUTHBEARER" and self.oauth_cb is not None:
            return
        if self.sasl_mechanism == "OAUTHBEARER" and not self.token_url:
            raise section.error(
                "sasl_oauthbearer_token_endpoint_url",
                "is missing: the URL that issues tokens for sasl_username and sasl_password; "
                "in Python, oauth_cb can be used instead",
            )
        for key in ("sasl_username", "sasl_password"):
            if not getattr(self, key):
                raise section.error(
                    key,
                    f"is missing: {self.security_protocol} with "
                    f"{self.sasl_mechanism} logs in; without a login, security_protocol "
                    "is PLAINTEXT or SSL",
                )

    def config(self) -> dict[str, Any]:
        """librdkafka's configuration of a producer that keeps order and waits for all replicas."""
        return {
            "enable.idempotence": True,  # its retries make no duplicates and keep the order
            "message.timeout.ms": 0,  # the broker has a deadline for the whole batch instead
            "message.max.bytes": LARGEST_MESSAGE,
            "batch.size": RECORD_BATCH,
            "linger.ms": 1,
            "queue.buffering.max.messages": self.queue_size or 10 * QUEUE_SIZE,
            "topic.metadata.propagation.max.ms": 3000,
            **self.connection(),
        }

    def connection(self) -> dict[str, Any]:
        """The part for producers and consumers: servers and login."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "client.id": self.client_id,
            "log_level": 0,  # it would write to stderr; errors are reported by callback too
            "security.protocol": self.security_protocol,
            "reconnect.backoff.max.ms": 1000,
            **self.keepalive,
        }
        if self.security_protocol.startswith("SASL"):
            config |= self._sasl()
        if self.security_protocol.endswith("SSL"):
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
        mechanism = {"sasl.mechanism": self.sasl_mechanism}
        if self.sasl_mechanism == "GSSAPI":
            return {**mechanism, "sasl.username": self.sasl_username}
        if self.sasl_mechanism != "OAUTHBEARER":
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


def _keepalive(keys: KafkaKeys) -> dict[str, Any]:
    """The keys that are used only with `socket_keepalive_enable`, as documented."""
    if not keys["socket_keepalive_enable"]:
        return {}
    return {
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": keys["reconnect_backoff_ms"],
        "reconnect.backoff.max.ms": keys["reconnect_backoff_max_ms"],
        "topic.metadata.refresh.interval.ms": keys["topic_metadata_refresh_interval_ms"],
    }
