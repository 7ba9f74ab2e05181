"""The part of pymongo's asynchronous client that this store uses, for versions without one.

`AsyncMongoClient` came with pymongo 4.9, and Rasa pins `pymongo<4.4`. Each call runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from pymongo import MongoClient


class ThreadedClient:
    """A client whose collections have coroutines for methods."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(url, connect=False, **options)

    def __getitem__(self, name: str) -> _Database:
        return _Database(self._client[name])

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)


class _Database:
    def __init__(self, database: Any) -> None:
        self._database = database

    def __getitem__(self, name: str) -> _Collection:
        return _Collection(self._database[name])


class _Collection:
    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._collection, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(method, *args, **options)

        return call

    def find(self, *args: Any, **options: Any) -> _Cursor:
        return _Cursor(self._collection.find(*args, **options))  # it sends nothing yet

    async def aggregate(self, *args: Any) -> _Cursor:
        return _Cursor(await asyncio.to_thread(self._collection.aggregate, *args))


class _Cursor:
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def sort(self, *args: Any) -> _Cursor:
        self._cursor.sort(*args)
        return self

    def limit(self, count: int) -> _Cursor:
        self._cursor.limit(count)
        return self

    def batch_size(self, count: int) -> _Cursor:
        self._cursor.batch_size(count)
        return self

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (found := await asyncio.to_thread(next, self._cursor, None)) is not None:
            yield found

    async def to_list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await asyncio.to_thread(list, self._cursor)
        return found

    async def __aenter__(self) -> _Cursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._cursor.close)
