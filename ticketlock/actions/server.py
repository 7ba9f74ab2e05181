"""`ActionServer`: calls custom actions, each at most once."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ..deliveries.poster import Answer, Outgoing, Poster, PostFailed
from ..domain.domain import Domain
from ..errors import (
    ActionFailed,
    ActionRejected,
    ActionServerConnectionError,
    ConfigurationError,
    UnknownAction,
)
from ..process import clock
from ..tracker.tracker import Tracker
from .settings import ActionSettings
from .wire import Answered, InvalidAnswer, read_answer, request_body

log = logging.getLogger("ticketlock.actions")

#: Pauses before a call that was not made is tried again: the first, and the longest, seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
#: What is sent without a domain: a newer rasa_sdk takes an empty mapping for none.
_EMPTY = Domain.from_dict({}).as_json().encode()
#: The status by which a newer rasa_sdk asks for the domain.
_NO_DOMAIN = 449
#: Characters of the error of an action that are shown.
_SHOWN = 300


class ActionServer:
    """The action server of a section: runs actions over the documented protocol.

    A call is made again only if nothing of it was sent. Each has a connection of its own: one that
    is kept may be closed by the server while a call is being written, and then it would not be known
    whether the action has run.

    Args:
        where: how error texts name the section.

    Raises ConfigurationError for files of certificates that cannot be read.
    """

    def __init__(self, settings: ActionSettings, where: str = "action_endpoint") -> None:
        self.settings = settings
        self.where = where
        self._url = settings.target()
        self._domain: Domain | None = None
        self._wanting: frozenset[str] = frozenset()
        try:
            self._poster = Poster(
                allow_private=True,
                timeout=settings.timeout,
                most_read=settings.max_response,
                context=settings.context(),
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        self._headers = {name.lower(): value for name, value in (settings.headers or {}).items()}
        if (login := settings.basic_auth) is not None:
            pair = f"{login['username']}:{login['password']}".encode()
            self._headers["authorization"] = "Basic " + base64.b64encode(pair).decode()

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return str(self._url)

    async def check_ready(self) -> None:
        """Connect, and send nothing. Raises ActionServerConnectionError."""
        try:
            await self._poster.reach(self._url)
        except PostFailed as error:
            raise ActionServerConnectionError("", self._unreached(error), sent=False) from None

    async def run(
        self, name: str, tracker: Tracker, domain: Domain | None, headers: Mapping[str, str]
    ) -> Answered:
        """Call an action with the state of a tracker.

        Args:
            domain: None: an empty one is sent.
            headers: of this call.

        Raises ActionRejected, UnknownAction, ActionFailed, ActionServerConnectionError.
        """
        sent = self._sent(name, domain)
        answer = await self._call(name, tracker, sent, headers)
        if answer.status == _NO_DOMAIN and sent is None:  # a newer rasa_sdk; the action has not run
            answer = await self._call(name, tracker, _as_json(domain), headers)
        if not answer.whole:
            raise self._failed(
                name, f"its answer has more than {self.settings.max_response} bytes: return less, or "
                "raise max_response"
            )  # fmt: skip
        if not 200 <= answer.status < 300:
            raise self._refused(name, answer)
        try:
            return await read_answer(answer.body)
        except InvalidAnswer as error:
            raise self._failed(name, f"its answer: {error}") from None

    async def _call(
        self, name: str, tracker: Tracker, domain: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        body = await request_body(name, tracker, domain, version("ticketlock"))
        made = {"content-type": "application/json", **self._headers, **headers}
        if self.settings.compress:
            body = zlib.compress(body)
            made["content-encoding"] = "deflate"
        return await self._post(name, Outgoing(self._url, made, body))

    def _sent(self, name: str, domain: Domain | None) -> bytes | None:
        """The domain as JSON; None if the action does not get it."""
        if self.settings.enable_selective_domain:
            if domain is not self._domain:
                self._domain, self._wanting = domain, _wanting(domain)
            if name not in self._wanting:
                return None
        return _as_json(domain)

    async def _post(self, name: str, outgoing: Outgoing) -> Answer:
        end, pause = clock() + self.settings.retry_for, _FIRST_PAUSE
        while True:
            try:
                return await self._poster.post(outgoing)
            except PostFailed as error:
                if error.unsent and clock() + pause < end:
                    log.info("action %r is tried again in %.1f s at most: %s", name, pause, error)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                if error.unsent:
                    text, sent = self._unreached(error), False
                else:
                    text, sent = f"{error}: the action may have run", True
                raise ActionServerConnectionError(name, text, sent=sent) from None

    def _unreached(self, error: PostFailed) -> str:
        return f"{error}: is the action server running? check url in {self.where}"

    def _refused(self, name: str, answer: Answer) -> Exception:
        """The error of a status, as documented; what an action says of its error is shown in part."""
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        said = found if isinstance(found, dict) else {}
        known, error = isinstance(said.get("action_name"), str), said.get("error")
        why = f": {error:.{_SHOWN}}" if isinstance(error, str) and error else ""
        if answer.status == 400 and known:
            return ActionRejected(name, f"it was rejected by the action itself{why}")
        if answer.status == 404 and known:
            return UnknownAction(
                name,
                f"{self.address} has no action of this name: correct it, or add the action there",
            )
        if 300 <= answer.status < 400:
            why = f": redirects are not followed: give the final address as url in {self.where}"
        elif answer.status == 404:
            why = f": check the path of url in {self.where}"
        elif answer.status in (401, 403):
            why = f": check token, headers or basic_auth in {self.where}"
        elif not why:
            why = ": its log says why"
        return self._failed(name, f"answered {answer.status}{why}")

    def _failed(self, name: str, why: str) -> ActionFailed:
        return ActionFailed(name, f"{self.address}: {why}")


def _as_json(domain: Domain | None) -> bytes:
    return _EMPTY if domain is None else domain.as_json().encode()


def _wanting(domain: Domain | None) -> frozenset[str]:
    """The actions that a domain lists with `send_domain: true`."""
    listed = () if domain is None else domain.as_dict().get("actions", ())
    found: set[str] = set()
    for action in listed:
        if isinstance(action, dict):
            found |= {name for name, keys in action.items() if _wants(keys)}
    return frozenset(found)


def _wants(keys: Any) -> bool:
    return isinstance(keys, dict) and keys.get("send_domain") is True
