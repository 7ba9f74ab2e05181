"""The link that fits a deployment."""

from __future__ import annotations

from typing import Any

from .cluster_link import ClusterLink
from .link import Link
from .redis_connect import connect, explain
from .redis_settings import RedisSettings
from .rights import Rights


def open_link(
    settings: RedisSettings, *, rights: Rights | None = None, **options: Any
) -> Link | ClusterLink:
    """A link that connects when it is first used.

    Args:
        rights: what looks at new connections.
        options: those of `Link`.
    """
    if settings.deployment_mode == "cluster":
        return ClusterLink(settings, rights=rights, **options)
    return Link(
        lambda: connect(settings, rights=rights), lambda error: explain(settings, error), **options
    )
