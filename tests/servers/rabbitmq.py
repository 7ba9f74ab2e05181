"""A RabbitMQ: the one of TICKETLOCK_TEST_RABBITMQ_URL, or a child process of the tests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pika

from . import missing
from .certificates import Certificates
from .processes import free_port, popen, temporary_folder

VARIABLE = "TICKETLOCK_TEST_RABBITMQ_URL"
USER, PASSWORD = "tester", "p@ss w:o/r%d+"  # what a URL must not be glued together from
VHOST = "a/b c"
#: Bytes of the largest message that the server is told to take.
LARGEST = 100_000
_PLACES = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"


def script() -> str:
    """The server's own start script; Debian's wrapper would change the user."""
    found = sorted(Path("/").glob(_PLACES[1:]))
    if not found:
        missing("RabbitMQ", f"apt-get install rabbitmq-server, or set {VARIABLE}")
    return str(found[-1])


class RabbitMQ:
    """A server with TLS, a second virtual host, and a user `limited` without rights."""

    def __init__(self) -> None:
        self._folder = temporary_folder()
        self.folder = Path(self._folder.name)
        self.certificates = Certificates(self.folder / "certificates")
        self.port = self.tls_port = 0
        self._epmd: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._env: dict[str, str] = {}

    def __enter__(self) -> RabbitMQ:
        try:
            self._script = script()
            self._prepare()
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _prepare(self) -> None:
        folder = self.folder
        self.port, self.tls_port, dist, epmd = (free_port() for _ in range(4))
        home = folder / "home"
        home.mkdir()
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (folder / "definitions.json").write_text(json.dumps(_definitions()))
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(self._config(dist))
        names = {"MNESIA_BASE": "mnesia", "LOG_BASE": "log", "CONFIG_FILE": "rabbitmq.conf",
                 "ENABLED_PLUGINS_FILE": "enabled_plugins", "CONF_ENV_FILE": "none",
                 "ADVANCED_CONFIG_FILE": "none.config", "GENERATED_CONFIG_DIR": "generated",
                 "PID_FILE": "pid"}  # fmt: skip
        self._env = {
            **{f"RABBITMQ_{key}": str(folder / name) for key, name in names.items()},
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": f"rmq{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "detached": "1",  # the script then becomes the server: its pid is ours to signal
        }
        self._epmd = self._popen(["epmd", "-port", str(epmd), "-address", "127.0.0.1"])

    def _config(self, dist: int) -> str:
        files = self.certificates
        return f"""\
listeners.tcp.1 = 127.0.0.1:{self.port}
listeners.ssl.1 = 127.0.0.1:{self.tls_port}
ssl_options.cacertfile = {files["ca.pem"]}
ssl_options.certfile = {files["server.pem"]}
ssl_options.keyfile = {files["server.key"]}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
loopback_users = none
load_definitions = {self.folder}/definitions.json
distribution.listener.interface = 127.0.0.1
distribution.listener.port_range.min = {dist}
distribution.listener.port_range.max = {dist}
log.console = true
log.file = false
max_message_size = {LARGEST}
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 1MB
"""

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            return popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder, env=self._env
            )

    def start(self) -> RabbitMQ:
        """Start, or start again on the same data; returns when a login succeeds."""
        self.process = self._popen([self._script])
        end = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "output").read_text()[-2000:])
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                self.connect().close()
                return self
            time.sleep(0.1)

    def connect(self, vhost: str = "/") -> Any:
        """A connection of an independent client."""
        login = pika.PlainCredentials(USER, PASSWORD)
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self.port, vhost, login, socket_timeout=2)
        )

    def section(self, **keys: Any) -> dict[str, Any]:
        """A section of an `event_broker` for this server."""
        login = {"username": USER, "password": PASSWORD}
        return {"type": "pika", "url": "127.0.0.1", "port": self.port, **login, **keys}

    def control(self, *words: str) -> None:
        """Run rabbitmqctl."""
        tool = str(Path(self._script).with_name("rabbitmqctl"))
        env = {key: value for key, value in self._env.items() if key != "detached"}
        command = [tool, "-n", self._env["RABBITMQ_NODENAME"], *words]
        subprocess.run(command, env=env, cwd=self.folder, check=True, capture_output=True)

    def stop(self, *, kill: bool = False) -> None:
        """End the server; `kill` with SIGKILL."""
        process, self.process = self.process, None
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _stop_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(10)
            self._epmd = None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._stop_epmd()
        self._folder.cleanup()


class GivenRabbitMQ:
    """The server of the environment variable, for the tests that need no control over it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def connect(self, vhost: str = "/") -> Any:
        return pika.BlockingConnection(pika.URLParameters(self._url))

    def section(self, **keys: Any) -> dict[str, Any]:
        return {"type": "pika", "url": self._url, **keys}


def given() -> GivenRabbitMQ | None:
    """The server that the environment names."""
    url = os.environ.get(VARIABLE)
    return GivenRabbitMQ(url) if url else None


def _definitions() -> dict[str, Any]:
    def user(name: str) -> dict[str, Any]:
        salt = secrets.token_bytes(4)
        digest = salt + hashlib.sha256(salt + PASSWORD.encode()).digest()
        return {
            "name": name,
            "password_hash": base64.b64encode(digest).decode(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }

    def rights(name: str, vhost: str, what: str) -> dict[str, str]:
        return {"user": name, "vhost": vhost, "configure": what, "write": what, "read": what}

    return {
        "users": [user(USER), user("limited")],
        "vhosts": [{"name": "/"}, {"name": VHOST}],
        "permissions": [
            rights(USER, "/", ".*"), rights(USER, VHOST, ".*"), rights("limited", "/", "^$"),
        ],
        "policies": [], "queues": [], "exchanges": [], "bindings": [],
    }  # fmt: skip
