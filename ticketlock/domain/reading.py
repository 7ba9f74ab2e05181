"""From the files of a domain to a `Domain`, merged as documented."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..files.yaml import line_of, parse_yaml
from .domain import SECTIONS, Domain, SessionConfig, check_sections, name_of

log = logging.getLogger("ticketlock")

#: Bytes of a file, values in it (aliases repeat them), and levels of nesting.
_MAX_BYTES, _MAX_VALUES, _MAX_DEPTH = 4 * 1024 * 1024, 1_000_000, 64
#: Sections by which a file of a folder is known as one of the domain's.
_OF_A_DOMAIN = {*SECTIONS} - {"config"}
_NAME = re.compile(r"\$\{([^{}]*)\}")


def read_domain(path: str | Path) -> Domain:
    """The domain of a file, or of all files of a folder and its subfolders, in the order of their paths.

    In a folder, files without a section of a domain are left out. What several files declare is
    taken from the first of them, with a WARNING. `${NAME}` outside of quotes is replaced from the
    environment.

    Raises ConfigurationError, with file, key and what to do.
    """
    domain = _domain(Path(path))
    if domain.unused:
        log.info("%s: not used by ticketlock: %s", path, ", ".join(domain.unused))
    return domain


def _domain(path: Path) -> Domain:
    if not path.is_dir():
        return Domain.from_dict(_read(path), str(path))
    merged: dict[str, Any] = {}
    origins: dict[tuple[str, str], Path] = {}
    files = 0
    for file in _files(path):
        data = _read(file)
        if isinstance(data, dict) and data.keys() & _OF_A_DOMAIN:
            _merge(merged, check_sections(data, str(file)), file, origins)
            files += 1
    if not files:
        raise ConfigurationError(
            f"{path}: has no domain: no .yml file in it has one of the sections "
            f"{', '.join(sorted(_OF_A_DOMAIN))}"
        )
    return Domain.from_dict(merged, str(path))


def _files(folder: Path) -> Iterator[Path]:
    """The YAML files, also below links to folders; a folder that contains itself is read once."""
    seen, found = set(), []
    for root, folders, names in os.walk(folder, onerror=_unread, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(root, name) for name in names if name.endswith((".yml", ".yaml"))]
    return iter(sorted(found))


def _unread(error: OSError) -> None:
    raise ConfigurationError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _read(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"{file}: cannot be read: {why}; check the path of the domain"
        ) from error
    if len(text) > _MAX_BYTES:
        raise ConfigurationError(f"{file}: is larger than {_MAX_BYTES} bytes: split it")
    return _Values(str(file)).plain(parse_yaml(text, str(file), quotes=True)) or {}


class _Values:
    """Makes the values of a parser plain, and counts them."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = _MAX_VALUES

    def plain(self, value: Any, line: int = 0, depth: int = _MAX_DEPTH) -> Any:
        self._left -= 1
        if self._left < 0 or depth < 0:
            what = f"more than {_MAX_VALUES} values" if depth >= 0 else "nested too deeply"
            raise ConfigurationError(f"{self._where}: line {line}: {what}: split it")
        if isinstance(value, Mapping):
            items = value.items()
            return {str(k): self.plain(v, line_of(value, k, line), depth - 1) for k, v in items}
        if isinstance(value, list):
            items = enumerate(value)  # type: ignore[assignment]  # of the list
            return [self.plain(v, line_of(value, k, line), depth - 1) for k, v in items]
        if isinstance(value, str):
            # Texts in quotes and blocks have types of their own, and `${price}` in them stays.
            return (
                _NAME.sub(lambda at: self._env(at[1], line), value)
                if type(value) is str
                else str(value)
            )
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            return int(value)
        return float(value) if isinstance(value, float) else value

    def _env(self, name: str, line: int) -> str:
        value = os.environ.get(name)
        if value is None:
            raise ConfigurationError(
                f"{self._where}: line {line}: environment variable {name} is not set; set it, or "
                "put the text in quotes to say it as it is"
            )
        return value


def _merge(
    merged: dict[str, Any], data: dict[str, Any], file: Path, origins: dict[tuple[str, str], Path]
) -> None:
    """Add what a file declares and those before it did not."""
    forms = merged.get("forms") or {}
    for section, kind in SECTIONS.items():
        given = data.get(section)
        if not given or section in ("session_config", "config"):
            continue
        names = given if kind is dict else {name_of(one): one for one in given}
        known = merged.setdefault(section, kind())
        there = {*(known if kind is dict else map(name_of, known))}
        for name, value in names.items():
            if section == "actions" and name in forms:
                continue
            if name in there:
                _repeated(section, name, file, origins)
            elif kind is dict:
                known[name] = value
            else:
                known.append(value)
            origins.setdefault((section, name), file)
    if merged.get("session_config") in (None, {}, vars(SessionConfig())):
        merged["session_config"] = data.get("session_config") or merged.get("session_config")
    for key, value in data.items():
        if key not in SECTIONS or key == "config":
            merged.setdefault(key, value)


def _repeated(section: str, name: str, file: Path, origins: Mapping[tuple[str, str], Path]) -> None:
    log.warning(
        "%s: %s: %s is in %s too, which counts; remove one of them",
        file, section, name, origins[section, name],
    )  # fmt: skip
