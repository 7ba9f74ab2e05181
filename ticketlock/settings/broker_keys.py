"""The keys of event brokers and of the database of the event service."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

from .keys import Key
from .store_keys import Dialect, SQLKeys


def _topic(name: str) -> str | None:
    known = re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) and name not in (".", "..")
    return (
        None if known else f"{name!r} is not a valid Kafka topic name (letters, digits, . _ and -)"
    )


def _readable(path: str) -> str | None:
    return None if os.access(path, os.R_OK) else f"{path!r} cannot be read"


def _callable(found: Any) -> str | None:
    return None if callable(found) else "is not callable"


class KafkaOptions(TypedDict, total=False):
    """Keys of Kafka, without its address."""

    topic: Annotated[str, Key("topic to publish to", "rasa_core_events", check=_topic)]
    client_id: Annotated[str | None, Key("name of this client in the servers' logs")]
    partition_by_sender: Annotated[
        bool,
        Key("the conversation is the key of its messages. The documented default is false, a "
            "random partition for each event: consumers then see the events of a conversation "
            "in any order", True),
    ]  # fmt: skip
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Key("with neither TLS nor a login, with TLS, with a login, with both", "SASL_PLAINTEXT"),
    ]
    sasl_mechanism: Annotated[
        Literal["PLAIN", "GSSAPI", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Key("how to log in; `GSSAPI` needs a confluent-kafka that was built for it", "PLAIN"),
    ]
    sasl_username: Annotated[str | None, Key("user; with `OAUTHBEARER` the client's id")]
    sasl_password: Annotated[str | None, Key("password; with `OAUTHBEARER` the client's secret")]
    sasl_oauthbearer_token_endpoint_url: Annotated[
        str | None, Key("URL from which `OAUTHBEARER` gets its tokens")
    ]
    oauth_cb: Annotated[
        Callable[[str], Any] | None,
        Key("confluent-kafka's callback for tokens", check=_callable, python_only=True),
    ]
    ssl_cafile: Annotated[
        str | None,
        Key("authorities to trust, a PEM file", check=_readable, shown="the system's"),
    ]
    ssl_certfile: Annotated[str | None, Key("client certificate, a PEM file", check=_readable)]
    ssl_keyfile: Annotated[str | None, Key("its key, a PEM file", check=_readable)]
    ssl_check_hostname: Annotated[
        bool,
        Key("with `SSL` and `SASL_SSL`: the certificate must be for the host that is connected "
            "to. Set it to true: false warns at each start", False),
    ]  # fmt: skip
    queue_size: Annotated[
        int | None,
        Key("how many published events may be in memory, and messages in the driver", None, 1,
            10_000_000, shown="10000"),
    ]  # fmt: skip
    socket_keepalive_enable: Annotated[
        bool, Key("keep idle connections open; only then do the next three keys apply", False)
    ]
    reconnect_backoff_ms: Annotated[
        int, Key("milliseconds before the first reconnection", 1000, 0, 3_600_000)
    ]
    reconnect_backoff_max_ms: Annotated[
        int, Key("maximum of milliseconds between two reconnections", 10_000, 0, 3_600_000)
    ]
    topic_metadata_refresh_interval_ms: Annotated[
        int,
        Key("milliseconds between two metadata requests; -1: never", 300_000, -1, 3_600_000),
    ]  # fmt: skip


class KafkaKeys(KafkaOptions, total=False):
    """Keys of `event_broker`, type `kafka`."""

    url: Annotated[
        Sequence[str],
        Key("the servers as `host:port`, several with commas or as a list", (), shown="required"),
    ]


class PikaOptions(TypedDict, total=False):
    """Keys of RabbitMQ, without host and login."""

    url: Annotated[str | None, Key("another name of `host`")]
    port: Annotated[int | None, Key("TCP port", None, 1, 65535, shown="5672, with `amqps://` 5671")]
    queues: Annotated[
        Sequence[str], Key("queues; each of them gets every event", ("rasa_core_events",))
    ]
    exchange_name: Annotated[str, Key("exchange to publish to", "rasa-exchange")]
    should_keep_unpublished_messages: Annotated[
        bool,
        Key("false: `publish` drops, and logs, what cannot be sent at once", True),
    ]  # fmt: skip
    raise_on_failure: Annotated[bool, Key("true: `publish` raises while the server is away", False)]
    connection_attempts: Annotated[int, Key("how often the first connection is tried", 20, 1)]
    retry_delay_in_seconds: Annotated[float, Key("seconds between these attempts", 5.0, 0)]


class PikaKeys(PikaOptions, total=False):
    """Keys of `event_broker`, type `pika`."""

    host: Annotated[
        str | None,
        Key("a host, `host:port`, or an `amqp://` or `amqps://` URL with parameters "
            "`cacertfile`, `certfile`, `keyfile`, `verify`, `no_verify_ssl`, "
            "`server_name_indication`, `heartbeat`, `connection_timeout` (seconds)",
            shown="required"),
    ]  # fmt: skip
    username: Annotated[
        str | None, Key("user, here or percent-encoded in the URL", shown="required")
    ]
    password: Annotated[
        str | None, Key("password, here or percent-encoded in the URL", shown="required")
    ]


class SQLEventOptions(SQLKeys, total=False):
    """Keys of a database of events, without its dialect."""

    db: Annotated[
        str,
        Key("name of the database; SQLite: its file. Not the tracker store's: its table has the "
            "same name, and is refused", "events.db"),
    ]  # fmt: skip


class SQLEventKeys(SQLEventOptions, total=False):
    """Keys of `event_broker`, type `sql`."""

    dialect: Dialect


class FileKeys(TypedDict, total=False):
    """Keys of `event_broker`, type `file`."""

    path: Annotated[
        str, Key("file of one JSON object a line; its folder must exist", "rasa_event.log")
    ]
