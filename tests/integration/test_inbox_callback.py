"""Replies to accepted messages are posted: to the callback URL, and over a channel's API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from servers.bot_server import replicas, write_files

from ticketlock import Conversations, verify_webhook
from ticketlock.endpoints import read_endpoints
from ticketlock.redis.embedded import EmbeddedRedis

SECRET = "whsec_" + "a" * 32


class Receiver:
    """What was posted to a local port."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.got.append((head[0], headers, body))
        writer.write(
            b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{"ok":true}'
        )
        await writer.drain()
        writer.close()

    async def wait_for(self, count: int) -> None:
        for _ in range(300):
            if len(self.got) >= count:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{len(self.got)} of {count} came")


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield made


async def test_the_documented_callback(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Each reply in order, signed; the replica that took the messages is killed."""
    async with receiver() as heard, httpx.AsyncClient(timeout=20) as http:
        path = write_files(tmp_path, redis_server.url)
        with path.open("a") as file:
            file.write(
                f"callback:\n  url: {heard.url}\n  secrets: {SECRET}\n  allow_private: true\n"
            )
        with replicas(tmp_path, [], []) as (one, _):
            for text in "123":
                body = {"sender": "c", "message": text, "message_id": text}
                slow = {"metadata": {"seconds": 0.5}}
                answer = await http.post(f"{one.url}/webhooks/callback/webhook", json=body | slow)
                assert (answer.status_code, answer.text) == (200, "success")
            one.process.kill()
            await heard.wait_for(6)
        texts = []
        for _, headers, body in heard.got:
            verify_webhook(body, headers, SECRET)
            texts.append(json.loads(body)["text"])
        assert list(dict.fromkeys(texts)) == [
            f"{word}: {n}" for n in "123" for word in ("begun", "done")
        ]


async def test_a_message_that_comes_due_later(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The callback webhook takes the time as the REST webhook does, and refuses one that is wrong."""
    path = write_files(tmp_path, redis_server.url)
    with path.open("a") as file:
        file.write(f"callback:\n  url: http://hooks.invalid/\n  secrets: {SECRET}\n")
    with replicas(tmp_path, []) as [one]:
        address = f"{one.url}/webhooks/callback/webhook"
        due = {"sender": "due", "message": "tea", "name": "n"}
        async with httpx.AsyncClient(timeout=20) as http:
            answer = await http.post(address, json={**due, "after": 600})
            assert (answer.status_code, answer.text) == (200, "success")
            assert (await http.post(address, json=due)).status_code == 400
        section = read_endpoints(path).section("lock_store")
        async with Conversations(section) as conversations:
            (waits,) = await conversations.due("due")
            assert json.loads(waits.text)["input_channel"] == "callback"
            assert await conversations.cancel("due", "n") == "cancelled"


async def test_a_message_from_telegram(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """From the webhook to the reply at the API; another webhook cannot write into its conversation."""
    async with receiver() as heard, httpx.AsyncClient(timeout=20) as http:
        path = write_files(tmp_path, redis_server.url)
        base = heard.url.removesuffix("/hook")
        with path.open("a") as file:
            file.write(
                "channels:\n  telegram:\n    access_token: '123:abc'\n"
                f"    secret_token: s3cret-s3cret-s3cret\n    api_url: {base}\n"
            )
        with replicas(tmp_path, []) as [one]:
            update = {
                "update_id": 7,
                "message": {
                    "message_id": 5, "date": 1, "text": "hi",
                    "chat": {"id": 42, "type": "private"}, "from": {"id": 42, "is_bot": False},
                },
            }  # fmt: skip
            headers = {"x-telegram-bot-api-secret-token": "s3cret-s3cret-s3cret"}
            for _ in range(2):  # it is sent again
                answer = await http.post(
                    f"{one.url}/webhooks/telegram/webhook", json=update, headers=headers
                )
                assert answer.status_code == 200, answer.text
            await heard.wait_for(2)
            await asyncio.sleep(0.5)
            assert [json.loads(body)["text"] for _, _, body in heard.got] == [
                "begun: hi",
                "done: hi",
            ]
            forged = {"sender": "telegram:123:42", "message": "x"}
            answer = await http.post(f"{one.url}/webhooks/rest/webhook", json=forged)
            assert answer.status_code == 403
