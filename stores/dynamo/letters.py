"""The dead letters of a `DynamoTrackerStore`, in `<table_name>_dead_letters`.

HASH `sender_id`, RANGE `position`: history, number, and piece of the event. An item has at most
400 KB, and undeliverable events are often large. The first piece has the other fields. It is put
last and deleted first: without it the other pieces are ignored.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from ticketlock.tracker.outbox import DeadLetter

from .client import DynamoClient
from .layout import PIECE, Item

#: Characters of a reason that are stored: it must fit into an item with a piece of the event.
_REASON = 10_000


class DynamoDeadLetters:
    """The dead letters. It blocks; threads may share it. The first letter creates the table."""

    def __init__(self, client: DynamoClient) -> None:
        self._client = client

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self._client.make_letters()
        for letter in letters:
            for item in reversed(_items(letter)):
                self._client.call("put_item", TableName=self._client.letters, Item=item)

    def read(self, limit: int) -> list[DeadLetter]:
        firsts = self._client.pages(
            "scan",
            TableName=self._client.letters,
            FilterExpression="attribute_exists(#reason)",
            ExpressionAttributeNames={"#reason": "reason"},
            ConsistentRead=True,
        )
        try:
            found = heapq.nsmallest(limit, firsts, key=_order)
        except ClientError as error:
            if _no_table(error):
                return []
            raise
        letters = (self._letter(first) for first in found)
        return [letter for letter in letters if letter is not None]

    def _letter(self, first: Item) -> DeadLetter | None:
        """The letter with this first piece; None if it was removed meanwhile."""
        sender_id, position = first["sender_id"]["S"], first["position"]["S"]
        history, sequence, _ = position.split(".")
        bodies = [first["body"]["S"]]
        if int(first["pieces"]["N"]) > 1:
            bodies = self._bodies(sender_id, f"{history}.{sequence}.")
            if len(bodies) < int(first["pieces"]["N"]):
                return None
        event = json.loads("".join(bodies))
        reason, at = first["reason"]["S"], int(first["at"]["N"])
        return DeadLetter(sender_id, int(history), int(sequence), event, reason, at)

    def _bodies(self, sender_id: str, prefix: str) -> list[str]:
        pieces = self._client.pages(
            "query",
            TableName=self._client.letters,
            KeyConditionExpression="#sender_id = :id AND begins_with(#position, :prefix)",
            ExpressionAttributeNames={"#sender_id": "sender_id", "#position": "position"},
            ExpressionAttributeValues={":id": {"S": sender_id}, ":prefix": {"S": prefix}},
            ConsistentRead=True,
        )
        return [piece["body"]["S"] for piece in pieces]

    def remove_dead_letter(self, letter: DeadLetter) -> bool:
        try:
            answer = self._client.call(
                "delete_item", ReturnValues="ALL_OLD", **self._place(letter, 0)
            )
        except ClientError as error:
            if _no_table(error):
                return False
            raise
        first: Item = answer.get("Attributes", {})
        for piece in range(1, int(first["pieces"]["N"]) if first else 0):
            self._client.call("delete_item", **self._place(letter, piece))
        return bool(first)

    def _place(self, letter: DeadLetter, piece: int) -> dict[str, Any]:
        key = {"sender_id": {"S": letter.sender_id}, "position": {"S": _position(letter, piece)}}
        return {"TableName": self._client.letters, "Key": key}


def _items(letter: DeadLetter) -> list[Item]:
    body = json.dumps(dict(letter.event))  # ASCII: characters are bytes
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    items: list[Item] = [
        {
            "sender_id": {"S": letter.sender_id},
            "position": {"S": _position(letter, number)},
            "body": {"S": piece},
        }
        for number, piece in enumerate(pieces)
    ]
    items[0] |= {
        "pieces": {"N": str(len(pieces))},
        "reason": {"S": letter.reason[:_REASON]},
        "at": {"N": str(letter.at)},
    }
    return items


def _position(letter: DeadLetter, piece: int) -> str:
    return f"{letter.history:015d}.{letter.sequence:015d}.{piece:03d}"


def _order(first: Item) -> tuple[str, str]:
    return first["sender_id"]["S"], first["position"]["S"]


def _no_table(error: ClientError) -> bool:
    """Whether the table does not exist: no dead letter was ever stored."""
    return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
