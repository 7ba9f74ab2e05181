"""Dead letters of a process: messages whose attempts have failed, where the lock store keeps none."""

from __future__ import annotations

import time
from collections import deque

from .submission import Letter, LetterKind, Letters, Submission

#: Letters of a conversation, and conversations with letters, that are kept at most.
_OF_ONE, _MOST = 100, 10_000


class LocalLetters:
    """The latest of each conversation."""

    def __init__(self) -> None:
        self._letters: dict[str, deque[Letter]] = {}

    def bury(self, sent: Submission, number: int, waited: float, reason: str) -> None:
        """Keep a message as a dead letter.

        Args:
            number: its ticket number.
            waited: seconds since it was submitted.
            reason: what is wrong, as JSON.
        """
        now = time.time()
        self._letters.setdefault(sent.conversation_id, deque(maxlen=_OF_ONE)).append(
            Letter(
                sent.conversation_id, sent.message_id, number, round(1000 * (now - waited)),
                round(1000 * now), reason, sent.text,
            )
        )  # fmt: skip
        while len(self._letters) > _MOST:
            del self._letters[next(iter(self._letters))]

    def of(self, conversation_id: str) -> list[Letter]:
        """Those of a conversation, the first one first."""
        return list(self._letters.get(conversation_id, ()))

    def latest(self, most: int) -> Letters:
        """Those of all conversations, the last one first."""
        found = [letter for letters in self._letters.values() for letter in letters]
        found.reverse()  # of those that died in one millisecond too, the last first
        found.sort(key=lambda letter: -letter.died)
        return Letters(found[:most], len(found) > most)

    def named(self, conversation_id: str, message_id: str, kind: LetterKind) -> list[Letter]:
        """Those of a message."""
        wanted = (message_id, kind)
        return [one for one in self.of(conversation_id) if (one.message_id, one.kind) == wanted]

    def drop(self, conversation_id: str, message_id: str, kind: LetterKind) -> bool:
        """Remove those of a message; whether there were any."""
        found = self.named(conversation_id, message_id, kind)
        for letter in found:
            self._letters[conversation_id].remove(letter)
        if not self._letters.get(conversation_id):
            self._letters.pop(conversation_id, None)
        return bool(found)

    def forget(self, conversation_id: str) -> int:
        """Remove all of a conversation; how many there were."""
        return len(self._letters.pop(conversation_id, ()))
