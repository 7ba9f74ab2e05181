"""What `parse_yaml` says of a text that is no YAML."""

from __future__ import annotations

import traceback

import pytest

from ticketlock import ConfigurationError
from ticketlock.files.yaml import parse_yaml

#: Text -> line, and the remedy.
FAULTS = {
    "a:\n\tb: 1\n": (2, "indent with spaces, not with tabs"),
    "a:\n  b: 1\n   c: 2\n": (3, "check the indentation of this line and of the one above"),
    "a:\n  - b\n c: 1\n": (3, "check the indentation of this line"),
    "a:b\nc: 1\n": (2, "the space after their colons"),
    "a: b: c\n": (1, "put a value with `: ` in quotes"),
    "a:\n  b: @c\n": (2, "put the value in quotes"),
    "a: {b: %c}\n": (1, "put the value in quotes"),
    "a: *b\n": (1, "put a value that begins with * in quotes"),
    "a: 'b\nc: 1\n": (1, "the quotation mark of this line is not closed"),
    "a: 'it's'\n": (1, "write a quotation mark in it twice"),
    "a: [b\nc: 1\n": (2, "a bracket is not closed"),
    "x: ${Y}\na: [b\nc: 1\n": (3, "a bracket is not closed"),
    "a: [${B}]\n": (1, "put quotes around ${NAME}"),
    "a: 1\n---\nb: 2\n": (2, "leave out the line ---"),
    "a: 1\na: 2\n": (2, 'duplicate key "a"; give it once'),
}


@pytest.mark.parametrize("text", FAULTS)
def test_the_line_and_what_to_change(text: str) -> None:
    """Each names the file, the line, and a remedy."""
    line, remedy = FAULTS[text]
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "f.yml")
    assert str(caught.value).startswith(f"f.yml: line {line}: ")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "password: hidden\npassword: secret\n",
        "a: {password: hidden}\na: {password: secret}\n",
        "password: *hidden\n",
        "password: @hidden\n",
        "password: hidden: secret\n",
        'password: "hidden\n',
    ],
)
def test_no_value_is_shown(text: str) -> None:
    """Neither in the error, nor in a traceback of it: the parser's own error quotes the file."""
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "f.yml")
    said = "".join(traceback.format_exception(caught.value))
    assert "hidden" not in said
    assert "secret" not in said
