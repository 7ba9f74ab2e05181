"""`endpoints.yml`: read, with `${NAME}` filled in, and checked section by section."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigurationError

#: Sections we read.
SECTIONS = ("lock_store", "tracker_store", "event_broker", "event_service", "server")
#: Sections of the documented file that other programs read.
_FOREIGN = ("nlg", "nlu", "action_endpoint", "models", "model_groups", "vector_store")

#: `${NAME}`, `${NAME:-default}`, `${NAME:?what to do}`; `$${NAME}` is the text `${NAME}`.
_VARIABLE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::(?:-([^}]*)|\?([^}]*)))?\}")

#: What YAML wants escaped, or reads as the end of a line.
_UNPRINTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")


class EndpointConfig:
    """One section of `endpoints.yml`: its `type`, its `url`, and the other keys as `kwargs`."""

    def __init__(self, url: str | None = None, **kwargs: Any) -> None:
        self.url = url
        self.type: str | None = kwargs.pop("store_type", None) or kwargs.get("type")
        kwargs.pop("type", None)
        self.kwargs = kwargs

    def __repr__(self) -> str:
        # Values may be secrets: only the names of the keys are shown.
        return f"EndpointConfig(type={self.type!r}, keys={sorted(self.kwargs)})"


@dataclass(frozen=True)
class Endpoints:
    """The sections of a file that are there.

    Attributes:
        path: the file, for error texts.
    """

    path: str
    sections: dict[str, EndpointConfig] = field(default_factory=dict)

    def section(self, name: str) -> EndpointConfig | None:
        """A section, None if it is not there."""
        return self.sections.get(name)

    def where(self, name: str) -> str:
        """File and section, for error texts."""
        return f"{self.path}: {name}"


def read_endpoints(path: str | Path) -> Endpoints:
    """Read and check the outline of an `endpoints.yml`.

    Raises ConfigurationError for a missing or broken file, for unknown sections, and for
    variables that are not set, each named with its line.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: cannot be read: {error}") from error
    document = _filled(_parse(text, name), name)
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{name}: is no mapping of sections such as lock_store")
    sections = {}
    for key, values in document.items():
        if key in _FOREIGN:
            continue
        if key not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise ConfigurationError(f"{name}: {key}: is no section here; known: {known}")
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise ConfigurationError(f"{name}: {key}: is no mapping of settings")
        if (kind := values.get("type")) is not None and not isinstance(kind, str):
            raise ConfigurationError(f"{name}: {key}: type: {kind!r} is not text")
        sections[str(key)] = EndpointConfig(**{str(k): v for k, v in values.items()})
    return Endpoints(name, sections)


def write_endpoints(path: Path, sections: Mapping[str, Any]) -> None:
    """Write a new file, which `read_endpoints` reads as these sections; nobody else may read it.

    Raises FileExistsError.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it may hold passwords
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(yaml_text(_quoted(sections)))


def yaml_text(value: Any) -> str:
    """A YAML scalar, list or mapping, in one line: JSON is YAML, and no text can break out of it.

    JSON writes a character beyond U+FFFF as two escapes, which YAML does not know: those stay
    as they are, and what YAML does not print is escaped.
    """
    return _UNPRINTED.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def _quoted(value: Any) -> Any:
    """The value with texts that look like variables marked as the texts that they are."""
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    return _VARIABLE.sub(r"$\g<0>", value) if isinstance(value, str) else value


def _parse(text: str, name: str) -> Any:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError:
        raise ConfigurationError(
            f'{name}: reading YAML needs: pip install "ticketlock[yaml]"'
        ) from None
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = "; put quotes around ${NAME} in a list" if "${" in text else ""
        raise ConfigurationError(f"{name}: {line}{error.problem}{hint}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{name}: is no YAML: {error}") from error


def _filled(value: Any, name: str, line: int = 0) -> Any:
    """The value with variables filled in, as plain dictionaries, lists and texts."""
    if isinstance(value, Mapping):
        return {key: _filled(item, name, _line(value, key, line)) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, name, _line(value, i, line)) for i, item in enumerate(value)]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, name, line), str(value))
    return value


def _line(parent: Any, key: Any, default: int) -> int:
    """The line of an item, which the parser has noted at its parent."""
    try:
        place = parent.lc.value(key) if isinstance(key, str) else parent.lc.item(key)
        return int(place[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return default


def _variable(match: re.Match[str], name: str, line: int) -> str:
    literal, variable, default, demand = match.groups()
    if literal:
        return match.group(0)[1:]
    value = os.environ.get(variable)
    if demand is not None and not value:
        said = f": {demand}" if demand else ""
        raise ConfigurationError(
            f"{name}: line {line}: environment variable {variable} is not set, or empty{said}"
        )
    if value is None and default is None:
        raise ConfigurationError(
            f"{name}: line {line}: environment variable {variable} is not set; "
            f"set it, or give a default: ${{{variable}:-...}}"
        )
    return default if value is None else value
