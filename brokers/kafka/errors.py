"""Kafka's errors in words: which server, what it said, and what to change."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from ticketlock.errors import ConfigurationError, EventBrokerConnectionError

from .settings import KafkaSettings

#: Codes that waiting within one batch does not cure.
HOPELESS = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}

#: Code -> what to change, and whether trying again may help.
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
    KafkaError._RESOLVE: ("there is no such host: check url", False),
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
    KafkaError._UNKNOWN_TOPIC: ("there is no such topic: create it, or check topic", True),
    KafkaError.UNKNOWN_TOPIC_OR_PART: ("there is no such topic: create it, or check topic", True),
    KafkaError._UNKNOWN_PARTITION: ("there is no such topic: create it, or check topic", True),
    KafkaError.INVALID_RECORD: (
        "the topic rejected the record: if it is compacted, set partition_by_sender",
        True,
    ),
}


def explain(error: KafkaError | None, settings: KafkaSettings) -> EventBrokerConnectionError:
    """The error for people; None: there was no answer at all."""
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
    """The error for a configuration that the driver does not take; `where` is its section."""
    said = error.args[0].str()
    if "GSSAPI" in said:
        said += "; build it so: pip install --no-binary confluent-kafka confluent-kafka"
    return ConfigurationError(f"{where}: the driver refuses: {said}")
