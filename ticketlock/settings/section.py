"""Reads settings with checks: each error names the section, the key, the value and a remedy."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError
from ..imports import schema
from .keys import Declared, declared

T = TypeVar("T")

#: Spellings of a switch.
TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")
_SECRET = re.compile(r"pass|secret|token|credential|sasl_password", re.IGNORECASE)
_REQUIRED: Any = object()
#: Least similarity of a suggested name; that of "user" and "username" is 0.67.
_NEAR = 0.65


def mask_url(url: str) -> str:
    """The text without the part before its last `@`, which has user and password.

    >>> mask_url("redis://user:pass@word@host/1")
    'redis://***@host/1'
    """
    scheme, colon, rest = url.rpartition("://")
    return scheme + colon + re.sub(r"^.*@", "***@", rest, flags=re.DOTALL)


def is_cut_off(url: str) -> bool:
    """Whether a `/`, `?` or `#` of a password ends the host of a URL too early, so that a part of the
    password would be taken for the host, and shown.

    >>> is_cut_off("redis://user:p@ss/word@host/1"), is_cut_off("redis://user:p@ss@host/1")
    (True, False)
    """
    rest = url.partition("://")[2]
    path, _, query = rest[len(re.split(r"[/?#]", rest, maxsplit=1)[0]) :].partition("?")
    # The value of a parameter may have an @, such as the appName of Azure's MongoDB.
    return any("@" in part for part in (path, *query.split("&")) if part is path or "=" not in part)


#: The end of an error about such a URL.
PERCENT = (
    "has an @ after its host: in user and password write / as %2F, ? as %3F, # as %23 and @ as %40, "
    "or give them as keys of their own"
)


def is_secret(key: str) -> bool:
    """Whether the value of a key of this name is secret."""
    return _SECRET.search(key) is not None


def hint(name: object, known: Iterable[str], label: str = "known") -> str:
    """The nearest known name, or all of them, for an error about an unknown name."""
    names = list(known)
    near = difflib.get_close_matches(str(name).lower(), names, 1, _NEAR)
    if not names:
        return "there are none"
    return f"did you mean {near[0]}?" if near else f"{label}: " + ", ".join(names)


def sentences(texts: Iterable[str]) -> str:
    """Several problems in one line; after a question mark without a full stop."""
    return ". ".join(texts).replace("?. ", "? ")


def located(where: str, error: Exception) -> str:
    """The text of an error, with the file and the section."""
    text = str(error)
    return text if text.startswith(where) else f"{where}: {text}"


def digest(value: object) -> str:
    """A short digest of a JSON value; equal values have the same one."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def endpoint_values(endpoint_config: Any) -> dict[str, Any]:
    """The plain keys of a documented `EndpointConfig`-like object (`url` and `kwargs`)."""
    values = getattr(endpoint_config, "kwargs", None)
    if not isinstance(values, Mapping):
        name = type(endpoint_config).__name__  # not its text: a URL may have a password
        raise ConfigurationError(
            f"{name} is not a section: give a mapping, such as {{'type': ..., 'url': ...}}, or settings by "
            "name, as in url=..."
        )
    keys = {key: value for key, value in values.items() if key not in ("type", "store_type")}
    url = getattr(endpoint_config, "url", None)
    return keys if url is None else {"url": url, **keys}


def kind_and_values(section: Any) -> tuple[str | None, dict[str, Any]]:
    """The `type` of a section, an EndpointConfig or a mapping, and its other keys."""
    if isinstance(section, Mapping):
        return section.get("type"), {k: v for k, v in section.items() if k != "type"}
    return section.type, endpoint_values(section)


class Section:
    """A mapping of settings; `finish` rejects keys that were not read.

    Numbers and switches may be texts, as from `${NAME}` in a YAML file.

    Attributes:
        where: file and section, for error texts.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self.where = where
        self._given = {key for key, value in self._values.items() if value is not None}
        self._known: dict[str, None] = {}  # in the order of reading

    def error(self, key: str, problem: str) -> ConfigurationError:
        """A ConfigurationError about `key`, for the caller to raise."""
        return ConfigurationError(f"{self.where}: {key}: {problem}")

    def values(self, keys: Any, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of all keys that a TypedDict or dataclass declares, checked.

        Args:
            defaults: values that replace declared defaults.

        Raises ConfigurationError.
        """
        instead = defaults or {}
        return {
            name: self._read(key, instead.get(name, key.default))
            for name, key in declared(keys).items()
        }

    def read(self, keys: type[T], defaults: Mapping[str, Any] | None = None) -> T:
        """`values` of a TypedDict, with its types."""
        return cast("T", self.values(keys, defaults))

    def has(self, key: str) -> bool:
        """Whether the key was given a value."""
        return key in self._given

    def place(self) -> tuple[str, str | None]:
        """Which of `url` and `host`, which are the same setting, is given, and its value."""
        url, host = self._values.get("url"), self._values.get("host")
        if url is not None and host is not None:
            raise self.error("url", "and host are the same setting; give one of them")
        key = "url" if host is None else "host"
        text = self.text(key, None)
        if text == "":  # as of a variable that is set to nothing
            raise self.error(key, "is empty; leave the key out for the default")
        return key, text

    def _read(self, declared: Declared, default: Any) -> Any:
        name, key = declared.name, declared.key
        if declared.kind in ("number", "integer"):
            value = getattr(self, declared.kind)(name, default, key.low, key.high)
        elif declared.kind == "choice":
            value = self.choice(name, declared.options, default)
        else:
            value = getattr(self, declared.kind)(name, default)
        if key.check is not None and name in self._given and (problem := key.check(value)):
            raise self.error(name, problem)
        return value

    def _take(self, key: str, default: Any) -> Any:
        self._known[key] = None
        value = self._values.get(key)
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
        if type(value) is int:
            return str(value)  # an unquoted 12345 in YAML: a password or a name all the same
        if isinstance(value, (int, float, date)):  # 007, 0x1F, 1_000, 1.50, true: YAML changes them
            raise self._bad(key, value, "text: put it in quotes")
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
        if not math.isfinite(number):
            raise self._bad(key, value, "a number")
        if low is not None and number < low:
            raise self._bad(key, value, f"a number of at least {low:g}")
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

    def flag(self, key: str, default: T = _REQUIRED) -> bool | T:
        value = self._take(key, default)
        if value is default:
            return value
        word = str(value).strip().lower()
        if word in TRUE:
            return True
        if word in FALSE:
            return False
        raise self._bad(key, value, "true or false")

    def choice(self, key: str, options: Iterable[str], default: str) -> str:
        """One of the options, in any case."""
        value = self._take(key, default)
        names = {name.lower(): name for name in options}
        if (found := names.get(str(value).lower())) is None:
            raise self._bad(key, value, "one of " + ", ".join(names.values()))
        return found

    def texts(self, key: str, default: Iterable[str] = ()) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        value = self._take(key, default)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise self._bad(key, value, "a list of texts")
        return tuple(value)

    def mapping(self, key: str, default: Any = None) -> Any:
        """A mapping of names to texts, numbers among them."""
        value = self._take(key, default)
        if value is default:
            return value
        if not isinstance(value, Mapping):
            raise self.error(key, "is not a mapping")  # the value may be or hold a secret
        return {str(name): str(text) for name, text in value.items()}

    def finish(self) -> None:
        """Raise ConfigurationError for unknown keys, each with the nearest name."""
        unknown = [str(key) for key in self._values if key not in self._known]
        if unknown:
            said = [self._unknown(key) for key in unknown]
            rest = [f"{key}: {text}" for key, text in zip(unknown[1:], said[1:], strict=True)]
            raise self.error(unknown[0], sentences([said[0], *rest]))

    def mistakes(self, keys: Mapping[str, Declared]) -> dict[str, str]:
        """Key -> its error, for all keys with a wrong value or not in `keys`."""
        found = {}
        for name, key in keys.items():
            try:
                self._read(key, key.default)
            except ConfigurationError as error:
                found[name] = str(error)
        unknown = [key for key in self._values if key not in self._known]
        return found | {key: str(self.error(key, self._unknown(key))) for key in unknown}

    def _unknown(self, key: str) -> str:
        near = hint(key, self._known, "known keys")
        home = schema().belongs(key, self.where.rpartition(": ")[2])
        if home is not None:
            near = f"{home}, or {near}" if near.startswith("did") else home
        return f"is not a setting here; {near}"
