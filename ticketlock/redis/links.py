"""The link that fits a deployment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cluster import ClusterLink
from .connect import connect, explain
from .link import Link
from .rights import Rights
from .sentinel_link import SentinelLink
from .settings import RedisSettings


def open_link(
    settings: RedisSettings,
    *,
    rights: Rights | None = None,
    channel: Callable[[str], str] | None = None,
    key: Callable[[str], str] | None = None,
    **options: Any,
) -> Link | ClusterLink:
    """A link that connects when it is first used.

    Args:
        rights: what looks at new connections.
        channel, key: those of `ClusterLink`.
        options: those of `Link`.
    """
    if settings.deployment_mode == "cluster":
        return ClusterLink(settings, rights=rights, channel=channel, key=key, **options)
    if settings.deployment_mode == "sentinel":
        return SentinelLink(settings, rights=rights, **options)
    return Link(
        lambda: connect(settings, rights=rights), lambda error: explain(settings, error), **options
    )
