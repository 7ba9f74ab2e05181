"""`StoredEvent`: an event as an outbox returns it, parsed only when a field is read.

On the way from a store to a broker that is rarely needed: fields are added to the JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_text = json.encoder.encode_basestring_ascii


class StoredEvent(Mapping[str, Any]):
    """An event by its JSON, as `codec` encodes it: one line of ASCII, each key once.

    Attributes:
        text: the JSON.
    """

    __slots__ = ("_fields", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._fields: dict[str, Any] | None = None

    def published(self, sender_id: str, sequence: int, history: int) -> str | None:
        """The JSON of the event with these fields; a `history` of 0 is left out.

        None if the event may have a field of the same name: then it must be parsed.
        """
        text = self.text
        if '"sender_id"' in text or '"sequence"' in text or '"history"' in text:
            return None
        last = f', "history": {history}' if history else ""
        return f'{{"sender_id": {_text(sender_id)}, {text[1:-1]}, "sequence": {sequence}{last}}}'

    def _read(self) -> dict[str, Any]:
        if self._fields is None:
            self._fields = json.loads(self.text)
        return self._fields

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"StoredEvent({self.text!r})"
