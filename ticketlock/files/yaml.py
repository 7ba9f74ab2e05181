"""YAML as values, with errors that name the file and the line."""

from __future__ import annotations

import io
from typing import Any

from ..errors import ConfigurationError
from ..imports import pip_line


def parse_yaml(text: str, name: str, quotes: bool = False) -> Any:
    """The value of a YAML text, in the parser's types, which know their lines.

    Args:
        name: the file, for errors.
        quotes: tell texts in quotes from others, by their types.

    Raises ConfigurationError, for a duplicate key too; without the extra `yaml` with the pip
    command.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError:
        raise ConfigurationError(f"{name}: reading YAML needs: {pip_line(['yaml'])}") from None
    parser = YAML(typ="rt")
    parser.preserve_quotes = quotes
    try:
        return parser.load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = "; put quotes around ${NAME} in a list" if "${" in text else ""
        raise ConfigurationError(f"{name}: {line}{error.problem}{hint}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{name}: is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{name}: is nested too deeply") from None


def yaml_of(value: Any) -> str:
    """A JSON value as YAML. Needs the extra `yaml`."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="rt").dump(value, stream)
    return stream.getvalue()


def line_of(parent: Any, key: Any, default: int) -> int:
    """The line of an item, which the parser stores at its parent."""
    try:
        place = parent.lc.value(key) if isinstance(key, str) else parent.lc.item(key)
        return int(place[0]) + 1
    except (AttributeError, KeyError, TypeError):
        return default
