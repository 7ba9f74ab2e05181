"""A virtual environment for each set of packages that cannot share one; and what the machine is."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ticketlock.redis.embedded import server_binary

ROOT = Path(__file__).parent.parent


def python_with(packages: tuple[str, ...]) -> str:
    """Path of a Python that has those packages, and nothing else; () is this Python."""
    if not packages:
        return sys.executable
    version = "".join(map(str, sys.version_info[:2]))
    digest = hashlib.sha1(" ".join(packages).encode()).hexdigest()[:8]
    folder = ROOT / f".venv-bench-{version}-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in _commands(folder, str(python), packages):
            subprocess.run(command, check=True)
        complete.touch()
    return str(python)


def _commands(folder: Path, python: str, packages: tuple[str, ...]) -> list[list[str]]:
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".tools" / "bin"))
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", *packages],
    ]


def describe() -> dict[str, Any]:
    """What the numbers depend on, with nothing in it that names the machine."""
    names = ("redis", "hiredis", "uvloop", "ticketlock")
    installed = {d.name: d.version for d in distributions() if d.name in names}
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    version = subprocess.run(
        [server_binary(), "--version"], check=False, capture_output=True, text=True
    )
    found = subprocess.run(commit, check=False, capture_output=True, text=True)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "server": version.stdout.strip(),
        "packages": installed,
        "commit": found.stdout.strip(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
