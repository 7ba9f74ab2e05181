"""Texts for Kafka's errors: which server, its error, and what to change."""

# The driver has no public names for the codes of librdkafka's own errors.
# ruff: noqa: SLF001

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from ticketlock.errors import ConfigurationError, EventBrokerConnectionError

from .client_config import KafkaSettings

#: Codes that waiting within one batch does not cure.
HOPELESS = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}
#: Codes of a lost connection: that of one server, and those of all.
TRANSPORT = KafkaError._TRANSPORT
DISCONNECTED = {TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
#: Codes of a topic that does not exist.
NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
#: The driver's queue is full.
QUEUE_FULL = KafkaError._QUEUE_FULL
#: Codes of messages that were purged, and of those whose server or topic has gone.
PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}
DESTROYED = KafkaError._DESTROY
#: Codes of states of a consumer that pass by themselves.
PASSING = {
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._PARTITION_EOF,
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.REBALANCE_IN_PROGRESS,
}

#: Code -> what to change, and whether another attempt may succeed.
_ADVICE: dict[int, tuple[str, bool]] = {
    KafkaError._AUTHENTICATION: (
        "it refused the login: check sasl_username, sasl_password and sasl_mechanism",
        False,
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: (
        "it refused the login: check sasl_username, sasl_password and sasl_mechanism",
        False,
    ),
    KafkaError._SSL: (
        (
            "TLS failed: check security_protocol, ssl_cafile, ssl_certfile, ssl_keyfile and, with "
            "ssl_check_hostname, the name in its certificate"
        ),
        False,
    ),
    KafkaError._RESOLVE: ("the host is not known: check url", False),
    KafkaError._TRANSPORT: (
        "no connection: check url and security_protocol, and that the server runs",
        True,
    ),
    KafkaError._ALL_BROKERS_DOWN: (
        "no connection: check url and security_protocol, and that the servers run",
        True,
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "the user may not use the topic: allow WRITE and DESCRIBE, to consume READ",
        False,
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "the user may not use the consumer group: allow READ on it, or check group",
        False,
    ),
    KafkaError.FENCED_INSTANCE_ID: (
        "another process of the group has this name: give each its own instance",
        False,
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "the user lacks a right: allow IDEMPOTENT_WRITE on the cluster",
        False,
    ),
    KafkaError._UNKNOWN_TOPIC: ("the topic does not exist: create it, or check topic", True),
    KafkaError.UNKNOWN_TOPIC_OR_PART: ("the topic does not exist: create it, or check topic", True),
    KafkaError._UNKNOWN_PARTITION: ("the topic does not exist: create it, or check topic", True),
    KafkaError.INVALID_RECORD: (
        "the topic rejected the record: if it is compacted, set partition_by_sender",
        True,
    ),
}


def explain(error: KafkaError | None, settings: KafkaSettings) -> EventBrokerConnectionError:
    """The error to raise; None: there was no answer."""
    address = f"Kafka at {settings.servers}"
    if error is None:
        return EventBrokerConnectionError(f"{address}: no answer in time")
    advice, again = _ADVICE.get(error.code(), ("check the server", True))
    said = error.str()
    if settings.sasl_password:
        said = said.replace(settings.sasl_password, "***")
    topic = f", topic {settings.topic}" if "topic" in advice else ""
    return EventBrokerConnectionError(f"{address}{topic}: {advice} ({said})", again)


def refused(error: KafkaException, where: str) -> ConfigurationError:
    """The error for a configuration that the driver refuses; `where` names its section."""
    said = error.args[0].str()
    if "GSSAPI" in said:
        said += "; build it so: pip install --no-binary confluent-kafka confluent-kafka"
    return ConfigurationError(f"{where}: the driver refuses: {said}")
