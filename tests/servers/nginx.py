"""The nginx of docs/deploy, in front of replicas that listen on ports of this machine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import missing
from .processes import child, free_port, temporary_folder

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
#: The ports of nginx.conf: for channels, and for operators.
CHANNELS, OPERATORS = 8080, 8081


@dataclass(frozen=True)
class Nginx:
    """Where it listens.

    Attributes:
        channels, operators: URLs.
    """

    channels: str
    operators: str


def program() -> str:
    """The nginx of this machine; Debian has it where only root looks."""
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not found:
        missing("nginx", "apt-get install nginx-light")
    return str(found)


def write_configuration(folder: Path, replicas: Sequence[int]) -> tuple[list[str], Nginx]:
    """The files as they are deployed, but for ports, folders, and where the replicas are.

    Returns:
        The command that starts nginx with them, and where it will listen.
    """
    text = (DEPLOY / "nginx.conf").read_text()
    found = Nginx(*(f"http://127.0.0.1:{free_port()}" for _ in range(2)))
    for port, url in ((CHANNELS, found.channels), (OPERATORS, found.operators)):
        text = text.replace(f"listen {port};", f"listen {url.removeprefix('http://')};")
    (folder / "nginx.conf").write_text(text.replace("/tmp/", f"{folder}/"))
    servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in replicas)
    upstream = (DEPLOY / "replicas.conf").read_text()
    upstream = re.sub(r"(?m)^resolver .*\n", "", upstream)
    upstream = re.sub(r"(?m)^ +server server:5005 resolve max_fails=0;$", servers, upstream)
    (folder / "replicas.conf").write_text(upstream)
    command = [program(), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return [*command, "-e", "stderr"], found


def check(command: list[str]) -> str:
    """What `nginx -t` says; raises CalledProcessError when it objects."""
    done = subprocess.run(
        [*command, "-t"], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout


@contextmanager
def nginx(replicas: Sequence[int]) -> Iterator[Nginx]:
    """Run nginx until the block ends."""
    with temporary_folder() as name:
        folder = Path(name)
        folder.chmod(0o755)
        command, found = write_configuration(folder, replicas)

        def ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(found.channels.rpartition(":")[2]))) == 0

        with child([*command, "-g", "daemon off;"], ready, folder / "log"):
            yield found
