"""The documented `EndpointConfig`."""

from __future__ import annotations

from typing import Any


class EndpointConfig:
    """One section of `endpoints.yml`: its `type`, its `url`, and the other keys as `kwargs`."""

    def __init__(self, url: str | None = None, **kwargs: Any) -> None:
        self.url = url
        self.type: str | None = kwargs.pop("store_type", None) or kwargs.get("type")
        kwargs.pop("type", None)
        self.kwargs = kwargs

    def __repr__(self) -> str:
        # Values may be secrets: only the names of the keys are shown.
        return f"EndpointConfig(type={self.type!r}, keys={sorted(self.kwargs)})"
