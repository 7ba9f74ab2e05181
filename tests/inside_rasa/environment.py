"""The environment with Rasa and this library, and the bot, trained once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".tools" / "rasa"
UV = os.environ.get("UV", str(ROOT / ".tools" / "bin" / "uv"))
RASA = "rasa==3.6.21"
BOT = Path(__file__).parent / "bot"

#: For Rasa and TensorFlow: no telemetry, and no pages of warnings.
QUIET = {
    "RASA_TELEMETRY_ENABLED": "false",
    "PYTHONWARNINGS": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
}


class NotHere(Exception):
    """Rasa cannot be had here; the text says what is missing."""


def prepare() -> Path:
    """Make the environment, or bring it up to date; returns its `rasa`. Raises NotHere."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        _run([UV, "venv", "--quiet", "--clear", "--python", find_python(), str(FOLDER)])
    # In one step: a resolution that fails says which pins contradict each other. pika is the
    # driver of our broker; Rasa's own uses another one.
    _run([UV, "pip", "install", "--quiet", "--python", str(python), RASA, "-e", str(ROOT), "pika"])
    return FOLDER / "bin" / "rasa"


def find_python() -> str:
    """A Python 3.10: the only version that both Rasa 3.6 and this library run on."""
    if given := os.environ.get("RASA_PYTHON"):
        return given
    commands = [[UV, "python", "find", "--no-project", "3.10"]]
    if shutil.which("pyenv"):
        commands.append(["pyenv", "prefix", "3.10"])
    for command in commands:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        place = Path(found.stdout.strip())
        if found.returncode == 0:
            return str(place / "bin" / "python" if place.is_dir() else place)
    return "3.10"  # uv may download it


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise NotHere(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-1000:]}")


def versions(rasa: Path) -> str:
    """`rasa --version`, and what was resolved."""
    said = subprocess.run(
        [str(rasa), "--version"], capture_output=True, text=True, check=True, env=environ()
    )
    packages = subprocess.run(
        [UV, "pip", "freeze", "--quiet", "--python", str(rasa.with_name("python"))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout + packages.stdout


def environ() -> dict[str, str]:
    """The environment variables of Rasa's processes."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, **QUIET}


def model(rasa: Path) -> Path:
    """The bot's model: it is trained when there is none of these files yet."""
    files = sorted(BOT.glob("*.yml"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    trained = FOLDER / f"{digest}.tar.gz"
    if not trained.exists():
        _train(rasa, trained)
    return trained


def _train(rasa: Path, trained: Path) -> None:
    words = [
        str(rasa), "train", "core", "--config", "config.yml", "--domain", "domain.yml",
        "--stories", "rules.yml", "--out", str(FOLDER), "--fixed-model-name",
        trained.name.removesuffix(".tar.gz"),
    ]  # fmt: skip
    done = subprocess.run(
        words, cwd=BOT, env=environ(), capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode or not trained.exists():
        raise RuntimeError(f"the bot was not trained: {(done.stdout + done.stderr)[-2000:]}")
