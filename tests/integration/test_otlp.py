"""`opentelemetry-instrument ticketlock run --otel`, as documented, to an OTLP receiver."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.bot_server import answers, write_files
from servers.processes import child, free_port

from ticketlock.redis.embedded import EmbeddedRedis

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver:
    """Listens for OTLP over HTTP, and keeps the bodies by their path."""

    def __init__(self) -> None:
        bodies: dict[str, list[bytes]] = {}
        self._bodies = bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                bodies.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[tuple[str, str, str]]:
        """Name, trace, and conversation of each."""
        found = []
        for body in self._bodies.get("/v1/traces", []):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        values = {a.key: a.value.string_value for a in span.attributes}
                        name = values.get("gen_ai.conversation.id", "")
                        found.append((span.name, span.trace_id.hex(), name))
        return found

    def metrics(self) -> set[str]:
        return {
            metric.name
            for body in self._bodies.get("/v1/metrics", [])
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_trace_arrives(redis_server: EmbeddedRedis, tmp_path: Path, receiver: Receiver) -> None:
    """Spans and metrics of a webhook, in the trace that its sender has begun."""
    port, endpoints = free_port(), write_files(tmp_path, redis_server.url)
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable]
    command += ["-m", "ticketlock", "run", "--otel", "--endpoints", str(endpoints)]
    command += ["--port", str(port)]
    given = {
        "OTEL_SERVICE_NAME": "bot", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with child(
        command, lambda: answers(f"{url}/health"), tmp_path / "log", env={**os.environ, **given}
    ):
        answer = httpx.post(
            f"{url}/webhooks/rest/webhook", json={"sender": "c", "message": "hello"}, timeout=30,
            headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        )  # fmt: skip
        assert answer.status_code == 200
    # What is left is sent at the end of the process.
    wanted = [(f"ticketlock.{name}", TRACE, "c") for name in ("claim", "commit", "turn", "wait")]
    assert sorted(receiver.spans()) == wanted
    assert {"ticketlock.turn.wait", "ticketlock.turns", "ticketlock.messages"} <= receiver.metrics()
