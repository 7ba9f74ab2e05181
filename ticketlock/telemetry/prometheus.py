"""Metrics for Prometheus, by prometheus_client: `pip install "ticketlock[prometheus]"`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..imports import pip_line

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import choose_encoder
except ModuleNotFoundError as error:
    text = f"ticketlock.telemetry.prometheus needs {error.name}: {pip_line(['prometheus'])}"
    raise ModuleNotFoundError(text, name=error.name) from None

from .metrics import (
    ACTIONS,
    BUCKETS,
    CAUSES,
    LOST,
    METRICS,
    OUTCOMES,
    RESULTS,
    TURNS,
    Metered,
    Metric,
)

__all__ = ["PrometheusMetrics"]

#: Kind of metric -> the method that records a value; of others `inc`.
_RECORDS = {"histogram": "observe", "gauge": "set"}


class PrometheusMetrics(Metered):
    """An observer that keeps the metrics; the bot server serves one at `GET /metrics`.

    Args:
        registry: the registry of the metrics; None: a new one. An application that exposes
            `prometheus_client.REGISTRY` passes that.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__()
        self.registry = CollectorRegistry() if registry is None else registry
        #: By the metric's name, and the values of its attributes, each of which has few.
        self._records: dict[str | tuple[str, tuple[str, ...]], Callable[[float], None]] = {}
        self._made: dict[Metric, Any] = {metric: self._make(metric) for metric in METRICS}
        # Created at the start, so that the first increment shows as a rise.
        for metric, values in ((TURNS, OUTCOMES), (LOST, CAUSES), (ACTIONS, RESULTS)):
            for value in values:
                self._made[metric].labels(value)

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        name, args = metric.prometheus, (metric.meaning, metric.attributes)
        if metric.kind == "counter":
            return Counter(name, *args, registry=self.registry)
        if metric.kind == "histogram":
            return Histogram(name, *args, registry=self.registry, buckets=BUCKETS)
        return Gauge(name, *args, registry=self.registry)

    def add(self, metric: Metric, value: float, *attributes: str) -> None:
        key = (metric.name, attributes) if attributes else metric.name
        record = self._records.get(key)
        if record is None:
            made = self._made[metric]
            if attributes:
                made = made.labels(*attributes)
            record = getattr(made, _RECORDS.get(metric.kind, "inc"))
            self._records[key] = record
        record(value)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its content type; `accept` is the header of the request."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
