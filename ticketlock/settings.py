"""Checked reading of settings: every error names where, which key, which value, and the way out."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .errors import ConfigurationError

T = TypeVar("T")

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_SECRET = re.compile(r"pass|secret|token|credential|sasl_password", re.IGNORECASE)
_REQUIRED: Any = object()


def mask_url(url: str) -> str:
    """The text without what stands before its last `@`: user, password, and all that went wrong.

    >>> mask_url("redis://user:pass@word@host/1")
    'redis://***@host/1'
    """
    scheme, colon, rest = url.rpartition("://")
    return scheme + colon + re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)


def is_secret(key: str) -> bool:
    """Whether the value of a key of this name is not to be shown."""
    return _SECRET.search(key) is not None


def located(where: str, error: Exception) -> str:
    """The text of an error, which names the file and the section."""
    text = str(error)
    return text if text.startswith(where) else f"{where}: {text}"


def digest(value: object) -> str:
    """A short name for a value made of mappings, lists and plain values; equal for equal ones."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Section:
    """One mapping of settings; what is read is ticked off, `finish` refuses the rest.

    Text that comes from `${NAME}` in a YAML file is accepted for numbers and switches.

    Attributes:
        where: file and section, for error texts.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self.where = where
        self._known: list[str] = []

    def error(self, key: str, problem: str) -> ConfigurationError:
        """A ConfigurationError about `key` of this section, to be raised by the caller."""
        return ConfigurationError(f"{self.where}: {key}: {problem}")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        value = self._values.pop(key, None)
        if value is None:
            if default is _REQUIRED:
                raise self.error(key, "is missing")
            return default
        return value

    def _bad(self, key: str, value: Any, wanted: str) -> ConfigurationError:
        shown = "the value" if is_secret(key) else repr(value)
        return self.error(key, f"{shown} is not {wanted}")

    def raw(self, key: str, default: Any = None) -> Any:
        """The value as it stands, unchecked."""
        return self._take(key, default)

    def text(self, key: str, default: T = _REQUIRED) -> str | T:
        value = self._take(key, default)
        if value is default or isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # an unquoted 12345 in YAML: a password or a name all the same
        raise self._bad(key, value, "text")

    def number(
        self, key: str, default: T = _REQUIRED, low: float | None = None, high: float | None = None
    ) -> float | T:
        value = self._take(key, default)
        if value is default:
            return value
        try:
            number = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            raise self._bad(key, value, "a number") from None
        if not math.isfinite(number) or (low is not None and number < low):
            raise self._bad(key, value, f"a number of at least {low:g}" if low else "a number")
        if high is not None and number > high:
            raise self._bad(key, value, f"a number of at most {high:g}")
        return number

    def integer(
        self, key: str, default: T = _REQUIRED, low: int | None = None, high: int | None = None
    ) -> int | T:
        value = self.number(key, default, low, high)
        if value is default:
            return default
        if not isinstance(value, float) or not value.is_integer():
            raise self._bad(key, value, "a whole number")
        return int(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._take(key, default)
        word = str(value).strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise self._bad(key, value, "true or false")

    def choice(self, key: str, options: Iterable[str], default: str) -> str:
        value = str(self._take(key, default)).lower()
        if value not in (names := list(options)):
            raise self._bad(key, value, "one of " + ", ".join(names))
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; one text is a list of one."""
        value = self._take(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise self._bad(key, value, "a list of texts")
        return list(value)

    def finish(self) -> None:
        """Raise ConfigurationError for keys nobody asked for, with the nearest known name."""
        for key in self._values:
            near = difflib.get_close_matches(str(key), self._known, 1)
            hint = f"did you mean {near[0]}?" if near else "known keys: " + ", ".join(self._known)
            raise self.error(str(key), f"is not a setting here; {hint}")
