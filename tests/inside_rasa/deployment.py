"""Two replicas behind nginx, and how one pair of them takes the place of another.

Two ways, both with traffic running: `roll` replaces replicas one by one; `switch` starts the new
ones first, stops all old ones, and only then sends traffic to the new.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from servers import nginx
from servers.processes import free_port, popen

from .environment import environ

#: Seconds that a pair has to start, and to stop: Rasa imports TensorFlow, and ends its turns.
START_SECONDS, STOP_SECONDS = 240, 60

_NGINX = """
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream bot {{ include {folder}/replicas.conf; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://bot; proxy_read_timeout 300; }}
    }}
}}
"""


@dataclass
class Step:
    """A configuration of the replicas.

    Attributes:
        name: for reports.
        sections: of its `endpoints.yml`.
        rasa: `rasa run`, else `ticketlock run`.
    """

    name: str
    sections: dict[str, Any]
    rasa: bool = True

    def write(self, file: Path, **more: Any) -> None:
        """Write the `endpoints.yml`."""
        file.write_text(json.dumps({**self.sections, **more}))  # JSON is YAML


@dataclass
class Replica:
    """A server process, its port, and where it says what it does."""

    process: subprocess.Popen[Any]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Deployment:
    """nginx and the replicas behind it.

    Args:
        rasa, model: the command, and the bot's model.
        folder: for logs and files.
        actions: URL of the action server.
    """

    rasa: Path
    model: Path
    folder: Path
    actions: str
    client: httpx.AsyncClient
    port: int = field(default_factory=free_port)
    replicas: list[Replica] = field(default_factory=list)
    _all: list[Replica] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Deployment:
        self.folder.chmod(0o755)
        conf = self.folder / "nginx.conf"
        conf.write_text(_NGINX.format(folder=self.folder, port=self.port))
        self._write()
        words = [nginx.program(), "-p", str(self.folder), "-c", str(conf), "-e", "stderr"]
        with (self.folder / "nginx.log").open("wb") as log:
            self._nginx = popen([*words, "-g", "daemon off;"], stdout=log, stderr=subprocess.STDOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in [*(replica.process for replica in self._all), self._nginx]:
            process.kill()
            process.wait()

    async def roll(self, step: Step) -> None:
        """Replace the replicas one by one."""
        for old in list(self.replicas):
            (new,) = await self.start(step, 1)
            self.replicas[self.replicas.index(old)] = new
            self.reload()
            await self.stop([old])

    async def switch(
        self, step: Step, between: Callable[[], Awaitable[None]] | None = None
    ) -> float:
        """Start the new ones, stop all old ones, then let traffic to the new; `between` in between.

        Returns the seconds in which requests were refused.
        """
        new = await self.start(step, 2)
        began = time.monotonic()
        await self.stop(self.replicas)
        if between is not None:
            await between()
        self.replicas = new
        self.reload()
        return time.monotonic() - began

    async def start(self, step: Step, count: int) -> list[Replica]:
        """Start replicas, and wait until they answer."""
        new = [self._start(step) for _ in range(count)]
        end = time.monotonic() + START_SECONDS
        for replica in new:
            await self._ready(replica, end)
        return new

    async def stop(self, replicas: list[Replica]) -> None:
        """SIGTERM: they end the turns that they have, and go."""
        for replica in replicas:
            replica.process.send_signal(signal.SIGTERM)
        for replica in replicas:
            await asyncio.to_thread(replica.process.wait, STOP_SECONDS)

    def reload(self) -> None:
        """Let nginx send requests to the present replicas."""
        self._write()
        self._nginx.send_signal(signal.SIGHUP)

    async def reached(self) -> None:
        """Wait until nginx reaches a replica."""
        end = time.monotonic() + 30
        while True:
            try:
                if (await self.client.get(f"{self.url}/status")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert time.monotonic() < end, "nginx reaches no replica"
            await asyncio.sleep(0.05)

    async def history(self, conversation: str) -> list[dict[str, Any]]:
        """All events of a conversation."""
        url = f"{self.replicas[0].url}/conversations/{conversation}/tracker?include_events=ALL"
        answer = await self.client.get(url)
        return list(answer.raise_for_status().json()["events"])

    def tell(self) -> None:
        """Print what the replicas said last."""
        for replica in self._all:
            print(f"  {replica.log.name}: …{replica.log.read_text(errors='replace')[-1500:]}")

    def _write(self) -> None:
        ports = [replica.port for replica in self.replicas] or [1]
        lines = "".join(f"server 127.0.0.1:{port} max_fails=0;\n" for port in ports)
        (self.folder / "replicas.conf").write_text(lines)

    def _start(self, step: Step) -> Replica:
        port = free_port()
        file = self.folder / f"{port}.yml"
        step.write(file, action_endpoint={"url": self.actions})
        common = ["--endpoints", str(file), "--port", str(port)]
        if step.rasa:
            words = [str(self.rasa), "run", "--model", str(self.model), "--enable-api"]
            words += ["--interface", "127.0.0.1"]
            env = environ()
        else:
            words = [sys.executable, "-m", "ticketlock", "run", "--bot", "answering:bot"]
            env = {**os.environ, "ACTIONS_URL": self.actions}
        log = self.folder / f"{len(self._all)}-{step.name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = popen(
                [*words, *common], stdout=output, stderr=subprocess.STDOUT, env=env,
                cwd=self.folder if step.rasa else Path(__file__).parent,
            )  # fmt: skip
        replica = Replica(process, port, log)
        self._all.append(replica)
        return replica

    async def _ready(self, replica: Replica, end: float) -> None:
        while True:
            said = replica.log.read_text(errors="replace")[-3000:]
            if replica.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"a replica did not start: {said}")
            try:
                answer = await self.client.get(f"{replica.url}/status", timeout=5)
                if answer.status_code in (200, 404):
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
