"""YAML as values, with errors that name the file and the line."""

from __future__ import annotations

import io
from typing import Any

from ..errors import ConfigurationError
from ..imports import pip_line

#: Part of the parser's error -> what to change; the first one that fits counts.
_REMEDIES = {
    "'\\t' that cannot start": "indent with spaces, not with tabs",
    "that cannot start any token": "put the value in quotes",
    "undefined alias": "put a value that begins with * in quotes",
    "mapping values are not allowed": "check the indentation of this line and of the one above, and "
    "the space after their colons; put a value with `: ` in quotes",
    "<block mapping start>": "check the indentation of this line",
    "'<scalar>'": "put the whole value in quotes, and write a quotation mark in it twice",
    "unexpected end of stream": "the quotation mark of this line is not closed",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "expected ',' or": "a bracket is not closed, or a value needs quotes",
    "another document": "leave out the line ---",
    "duplicate key": "give it once",
}


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
        # Not `from error`: its text quotes the file, which may have passwords.
        raise ConfigurationError(f"{name}: {_said(error, text)}") from None
    except YAMLError as error:
        raise ConfigurationError(f"{name}: is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{name}: is nested too deeply") from None


def _said(error: Any, text: str) -> str:
    """Line and problem of the parser's error, without a value of the file, and what to change."""
    problem, mark = str(error.problem), error.problem_mark
    if "unexpected end of stream" in problem:
        mark = error.context_mark or mark  # where the quotes begin
    # It quotes both values of a duplicate key, and an alias, which may be a password that begins with *.
    problem = problem.partition(" with value ")[0]
    if "undefined alias" in problem:
        problem = problem.partition(" '")[0]
    line = "" if mark is None else text.splitlines()[mark.line : mark.line + 1]
    remedy = next((todo for part, todo in _REMEDIES.items() if part in problem), None)
    if line and "${" in line[0] and "expected ',' or" in problem:
        remedy = "put quotes around ${NAME} in brackets"
    place = "" if mark is None else f"line {mark.line + 1}: "
    return f"{place}{problem}{'' if remedy is None else f'; {remedy}'}"


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
