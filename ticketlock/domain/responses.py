"""The responses of a domain: which variation is said, and its variables."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..plain_json import brief

log = logging.getLogger("ticketlock")

Variation = Mapping[str, Any]

#: Keys of a variation with variables.
_FILLED = ("text", "image", "custom", "buttons", "attachment", "quick_replies")
#: `{{` and `}}`, which stand for one brace, and `{name}`.
_VARIABLE = re.compile(r"\{\{|\}\}|\{([^\n{}]+)\}")


def check_responses(responses: Any, where: str) -> None:
    """Raise ConfigurationError unless each response is a list of variations."""
    for name, variations in responses.items():
        place = f"{where}: responses: {name}"
        if not isinstance(variations, Sequence) or isinstance(variations, str) or not variations:
            raise ConfigurationError(f"{place}: is not a list of variations: - text: Hi")
        for number, variation in enumerate(variations, 1):
            at = place if len(variations) == 1 else f"{place}: variation {number}"
            if not isinstance(variation, Mapping):
                raise ConfigurationError(f"{at}: is not a mapping: write - text: Hi")
            text = variation.get("text")
            if text is None and not variation.get("custom"):
                raise ConfigurationError(f"{at}: has neither text nor custom; add one of them")
            if text is not None and not isinstance(text, str):
                raise ConfigurationError(f"{at}: text: {brief(text)} is not text: put it in quotes")
            _check_conditions(variation.get("condition"), at)


def _check_conditions(conditions: Any, at: str) -> None:
    if conditions is None:
        return
    if not isinstance(conditions, (list, tuple)):
        raise ConfigurationError(f"{at}: condition: is not a list: - type: slot")
    for one in conditions:
        if not isinstance(one, Mapping) or not {"type", "name", "value"} <= one.keys():
            raise ConfigurationError(f"{at}: condition: needs type: slot, name and value")
        if one["type"] != "slot":
            raise ConfigurationError(
                f"{at}: condition: type: {brief(one['type'])} is not known; the only type is slot"
            )


def suitable(
    variations: Sequence[Variation], channel: str | None, slots: Mapping[str, Any]
) -> list[Variation]:
    """The variations to choose from: the first group of these that has one.

    Those of the channel whose conditions hold; those of the channel without conditions; those
    without channel whose conditions hold; the others without channel.
    """
    plain = [one for one in variations if one.get("condition") is None]
    matching = [one for one in variations if one.get("condition") and _holds(one, slots)]
    for group, wanted in ((matching, channel), (plain, channel), (matching, None), (plain, None)):
        if found := [one for one in group if one.get("channel") == wanted]:
            return found
    return []


def _holds(variation: Variation, slots: Mapping[str, Any]) -> bool:
    return all(
        _folded(slots.get(one["name"])) == _folded(one["value"]) for one in variation["condition"]
    )


def _folded(value: Any) -> Any:
    """Texts are compared without case."""
    return value.casefold() if isinstance(value, str) else thawed(value)


def chosen(variations: Sequence[Variation], draw: str) -> Variation:
    """One of the variations: each equally often, and for equal `draw` the same one."""
    digest = hashlib.sha256(draw.encode(errors="surrogatepass")).digest()
    return variations[int.from_bytes(digest[:8], "big") % len(variations)]


def filled(name: str, variation: Variation, values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the variation with its variables replaced."""
    return {
        key: _interpolated(name, value, values) if key in _FILLED else thawed(value)
        for key, value in variation.items()
    }


def _interpolated(name: str, value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _text(name, value, values)
    if isinstance(value, Mapping):
        return {key: _interpolated(name, inner, values) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_interpolated(name, inner, values) for inner in value]
    return value


def _text(name: str, text: str, values: Mapping[str, Any]) -> str:
    """The text with its variables; unchanged if one of them has no value, as documented."""
    unknown = [v for v in _VARIABLE.findall(text) if v and v not in values]
    if unknown:
        if '"' not in unknown[0]:  # else it is JSON, of a payload
            log.warning(
                "response %s: {%s} is neither a slot nor an argument: its text is said as it is",
                name, unknown[0],
            )  # fmt: skip
        return text
    return _VARIABLE.sub(lambda at: str(values[at[1]]) if at[1] else at[0][0], text)


def thawed(value: Any) -> Any:
    """A copy of a value in dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: thawed(inner) for key, inner in value.items()}
    return [thawed(inner) for inner in value] if isinstance(value, (list, tuple)) else value
