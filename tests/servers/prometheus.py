"""The Prometheus of docs/deploy, which scrapes replicas that listen on ports of this machine."""

from __future__ import annotations

import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from . import missing
from .bot_server import answers
from .processes import child, free_port

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


def program(name: str = "prometheus") -> str:
    """A program of Debian's package."""
    found = shutil.which(name)
    if not found:
        missing(name, "apt-get install prometheus")
    return str(found)


def write_configuration(folder: Path, replicas: Sequence[int], token: str) -> Path:
    """The files as they are deployed, but for the pace, the token's place, and the replicas'."""
    shutil.copy(DEPLOY / "alerts.yml", folder)
    (folder / "token").write_text(token)
    text = (DEPLOY / "prometheus.yml").read_text()
    text = text.replace("15s", "1s").replace("/etc/prometheus/ticketlock-token", "token")
    targets = [f"127.0.0.1:{port}" for port in replicas]
    found = re.compile(r"    dns_sd_configs:\n(      .*\n)*")
    text, count = found.subn(f"    static_configs:\n      - targets: {targets}\n", text)
    assert count == 1
    path = folder / "prometheus.yml"
    path.write_text(text)
    return path


class Prometheus:
    """A server that runs; `url` is where."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an expression, now; AssertionError for one that is none."""
        words = urllib.parse.urlencode({"query": expression})
        answer = httpx.get(f"{self.url}/api/v1/query?{words}", timeout=10).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        """The one number that an expression gives, 0 if it gives none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0


@contextmanager
def prometheus(replicas: Sequence[int], token: str = "") -> Iterator[Prometheus]:
    """Run Prometheus until the block ends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        path = write_configuration(folder, replicas, token)
        command = [program(), f"--config.file={path}", f"--storage.tsdb.path={folder}/data"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        with child(command, lambda: answers(f"{url}/-/ready"), folder / "log"):
            yield Prometheus(url)
