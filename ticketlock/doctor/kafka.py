"""Kafka: the topic, its copies, and what of it is removed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from importlib import import_module
from typing import Any

from . import tls
from .finding import NOT_LOOKED_AT, Finding, fault
from .visit import Visit

COPIES = fault(
    "kafka-copies", "warning",
    "When a broker fails, confirmed events are lost with it, or their partitions stop.",
    "https://kafka.apache.org/documentation/#replication",
)  # fmt: skip

IN_SYNC = fault(
    "kafka-in-sync", "error",
    "The broker refuses every event (NOT_ENOUGH_REPLICAS), and they wait in the outbox.",
    "https://kafka.apache.org/documentation/#topicconfigs_min.insync.replicas",
)  # fmt: skip

ONE_IN_SYNC = fault(
    "kafka-min-insync", "warning",
    "Kafka confirms events that only one broker has. They are lost with it, although the topic has copies.",
    "https://kafka.apache.org/documentation/#topicconfigs_min.insync.replicas",
)  # fmt: skip

COMPACTED = fault(
    "kafka-compacted", "error",
    "The key of an event is its conversation: compaction removes all events of a conversation but the "
    "latest.",
    "https://kafka.apache.org/documentation/#compaction",
)  # fmt: skip

ORDER = fault(
    "kafka-order", "warning",
    "Each event goes to any partition: consumers see the events of a conversation in any order.",
    "docs/concepts/events.md",
)  # fmt: skip


async def visit(section: str, settings: Any, timeout: float) -> Visit:
    """Look at the topic. Of a server that does not answer only what its settings say is judged."""
    found = Visit(f"Kafka at {settings.servers}", (section,))
    found.findings += [*tls.of_kafka(section, settings), *order(section, settings)]
    try:
        copies, config, refused = await asyncio.to_thread(_ask, settings, timeout)
    except import_module("confluent_kafka").KafkaException:
        return found  # the section's own check says why
    if copies:
        found.seen = f"topic {settings.topic}, {len(copies)} partitions"
        found.findings += [
            *replication(settings.topic, copies, config),
            *compaction(settings.topic, config),
        ]
    if refused:
        found.findings.append(NOT_LOOKED_AT.found(
            f"settings of topic {settings.topic}: {refused}", "grant the user DescribeConfigs on the topic"
        ))  # fmt: skip
    return found


def _ask(settings: Any, timeout: float) -> tuple[list[tuple[int, int]], dict[str, str], str]:
    """Copies and copies in sync of each partition, settings of the topic, and why none were given."""
    admins: Any = import_module("confluent_kafka.admin")
    kafka: Any = import_module("confluent_kafka")
    admin = admins.AdminClient(settings.connection())
    topic = admin.list_topics(settings.topic, timeout=timeout).topics[settings.topic]
    if topic.error is not None:
        return [], {}, ""  # the section's own check says so
    copies = [(len(one.replicas), len(one.isrs)) for one in topic.partitions.values()]
    resource = admins.ConfigResource(admins.ResourceType.TOPIC, settings.topic)
    answers = admin.describe_configs([resource], request_timeout=timeout)
    try:
        (entries,) = (answer.result(timeout) for answer in answers.values())
    except (kafka.KafkaException, FutureTimeout) as error:
        return copies, {}, str(error) or "no answer in time"
    return copies, {name: str(entry.value) for name, entry in entries.items()}, ""


def replication(
    topic: str, copies: list[tuple[int, int]], config: Mapping[str, str]
) -> Iterator[Finding]:
    """Too few copies, or more wanted than there are. Source: the topic's metadata and settings.

    Our producer waits for all copies in sync (acks=all).
    """
    fewest, in_sync = min(there for there, _ in copies), min(sync for _, sync in copies)
    wanted = int(config.get("min.insync.replicas") or 1)
    alter = f"kafka-configs.sh --alter --topic {topic} --add-config min.insync.replicas="
    if wanted > in_sync:
        yield IN_SYNC.found(
            f"min.insync.replicas is {wanted}, and a partition of {topic} has {in_sync} in sync",
            f"start the brokers that are down, or {alter}{max(1, fewest - 1)}",
        )
    if fewest < 2:
        yield COPIES.found(
            f"topic {topic} has one copy of each event",
            "kafka-reassign-partitions.sh with three replicas for each partition",
        )
    elif config and wanted < 2:
        yield ONE_IN_SYNC.found(
            f"min.insync.replicas of {topic} is 1, with {fewest} copies", f"{alter}2"
        )


def compaction(topic: str, config: Mapping[str, str]) -> Iterator[Finding]:
    """The topic is compacted. Source: its settings."""
    policy = config.get("cleanup.policy", "")
    if "compact" in policy:
        yield COMPACTED.found(
            f"cleanup.policy of {topic} is {policy}",
            f"kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete",
        )


def order(section: str, settings: Any) -> Iterator[Finding]:
    """Events are not kept in the order of their conversation. Source: the section."""
    if not settings.partition_by_sender:
        yield ORDER.found(
            f"{section}: partition_by_sender is false", "remove it, or set it to true"
        )
