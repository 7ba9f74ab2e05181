"""The database of a `MongoTrackerStore`: its settings, the client, the collections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from ticketlock import process
from ticketlock.aio.home import Home
from ticketlock.settings.section import PERCENT, Section, is_cut_off
from ticketlock.settings.store_keys import MongoKeys

from .errors import explained

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.collection import AsyncCollection
else:
    try:
        from pymongo import AsyncMongoClient
    except ImportError:  # before pymongo 4.9
        from .threaded import ThreadedClient as AsyncMongoClient

log = logging.getLogger("ticketlock.stores")

Document = dict[str, Any]

#: Seconds after which an unused connection is not used again: firewalls forget those that are idle
#: for minutes, without a word.
IDLE = 45


class Database:
    """The collections; the client connects at their first use.

    Attributes:
        where: the server, for error texts.
        collection: name of the documented collection; the library's own ones add a suffix.
    """

    def __init__(self, section: Section) -> None:
        keys = section.read(MongoKeys)
        self._url = section.place()[1] or "mongodb://localhost:27017"
        _check_url(section, self._url)
        # Error texts must not show the login before the @.
        self.where = self._url.rpartition("@")[2].removeprefix("mongodb://").partition("?")[0]
        self._name, self.collection = keys["db"], keys["collection"]
        self._options = _options(section, keys, self._url)
        if re.search(r"(?i)[?&](tlsinsecure|tlsallowinvalid\w+)=true", self._url):
            log.warning(
                "%s: the certificate of MongoDB is not verified (tlsInsecure, tlsAllowInvalid...): "
                "anyone on the network path can read and change everything", section.where,
            )  # fmt: skip
        self._client: AsyncMongoClient[Document] | None = None
        self._indexed = False
        self._indexing, self._home = asyncio.Lock(), Home()
        process.tell_of_forks(self)

    @property
    def place(self) -> str:
        """The server, the database and the collection."""
        return f"{self.where}, {self._name}.{self.collection}"

    def forked(self) -> None:
        """Leave connections to the parent, in a forked child."""
        process.leave_to_parent(self._client, self._indexing)
        self._client, self._indexing = None, asyncio.Lock()

    def _follow_loop(self) -> None:
        """Begin anew if the event loop of the client is closed: only there it can be used."""
        if self._home.left():
            self._client, self._indexing = None, asyncio.Lock()

    async def close(self) -> None:
        self._follow_loop()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @contextlib.asynccontextmanager
    async def translated_errors(self) -> AsyncIterator[None]:
        """Translate pymongo's errors."""
        try:
            yield
        except PyMongoError as error:
            raise explained(self.where, error) from error

    def _named(self, suffix: str) -> AsyncCollection[Document]:
        self._follow_loop()
        if self._client is None:
            self._client = AsyncMongoClient(self._url, **self._options)
        return self._client[self._name][self.collection + suffix]

    @property
    def documented(self) -> AsyncCollection[Document]:
        return self._named("")

    @property
    def current(self) -> AsyncCollection[Document]:
        return self._named("_current")

    @property
    def dead_letters(self) -> AsyncCollection[Document]:
        return self._named("_dead_letters")

    async def indexed_current(self) -> AsyncCollection[Document]:
        """The current documents, with the index of those with waiting events."""
        await self._make_indexes()
        return self.current

    async def history(self) -> AsyncCollection[Document]:
        """The buckets, with the index that makes them unique."""
        await self._make_indexes()
        return self._named("_history")

    async def _make_indexes(self) -> None:
        self._follow_loop()
        async with self._indexing:
            if self._indexed:
                return
            keys = [("sender_id", 1), ("run", 1), ("first", 1)]
            await self._named("_history").create_index(keys, unique=True)
            await self.current.create_index("outbox_at", sparse=True)
            self._indexed = True


def _check_url(section: Section, url: str) -> None:
    """Raise ConfigurationError for a URL that is wrong whatever the server is."""
    if is_cut_off(url):
        raise section.error("url", PERCENT)
    if url.startswith("mongodb+srv://"):
        return  # parsing it needs DNS
    try:
        if "://" in url:
            parse_uri(url, warn=False)
    except PyMongoError:
        # The driver's error is not shown: its "port" may be a part of a password.
        raise section.error(
            "url",
            "is not a MongoDB URL; one looks like mongodb://user:password@host:27017/?option=value, "
            "with the characters /?#[]@:% of user and password written as %2F and so on",
        ) from None


def _options(section: Section, keys: MongoKeys, url: str) -> Mapping[str, Any]:
    """Keyword arguments of the client; options in the url override them."""
    milliseconds = round(1000 * keys["socket_timeout"])
    username, password = keys["username"], keys["password"]
    source = keys["auth_source"]
    if source is None and username:
        source = "admin"
    if username and password is None:
        raise section.error("password", "is missing: a username alone cannot log in")
    options: dict[str, Any] = {
        "w": "majority",  # an acknowledged turn survives the loss of the primary
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
        "maxIdleTimeMS": 1000 * IDLE,
    }
    query = url.partition("?")[2].lower()
    said = {pair.partition("=")[0] for pair in query.split("&")}
    options = {key: value for key, value in options.items() if key.lower() not in said}
    if username:
        options |= {"username": username, "password": password}
    if source is not None and (username or "@" in url):
        options["authSource"] = source
    return options
