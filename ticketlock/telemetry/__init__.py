"""Observers, metrics and traces."""

from typing import TYPE_CHECKING

from ..imports import late

if TYPE_CHECKING:
    from .otel import OpenTelemetry
    from .prometheus import PrometheusMetrics

__all__ = ["OpenTelemetry", "PrometheusMetrics"]

_LATE = {"OpenTelemetry": "otel", "PrometheusMetrics": "prometheus"}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE)
