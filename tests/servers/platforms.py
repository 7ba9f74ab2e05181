"""Chat platforms as a webhook sees them: they sign, send again what got no 200, and take replies.

What a platform would show to its user is in `said`. While `gate` is closed no reply is answered,
so that the turn that sends it does not end.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from zlib import crc32

import httpx

SECRET = "a-secret-of-8-characters-or-more"


class Platform:
    """One chat with the bot.

    Attributes:
        path: where the bot's replicas have their webhook.
        conversation: the name that the example gives to the chat.
        said: the replies, in the order in which they came.
    """

    path: str
    conversation: str

    def __init__(self, chat: str) -> None:
        self.chat = chat
        self.said: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""

    def body(self, text: str) -> bytes:
        """The request's body for a message; the same text is the same message."""
        return json.dumps(self.update(text, crc32(text.encode()))).encode()

    def update(self, text: str, number: int) -> dict[str, Any]:
        raise NotImplementedError

    def signature(self, body: bytes) -> dict[str, str]:
        raise NotImplementedError

    def reply(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        """Answer to a call of the platform's API; a message to the user is given to `hear`."""
        raise NotImplementedError

    def hear(self, text: str) -> None:
        self.said.append(text)
        assert self.gate.wait(30)

    def deliver(
        self, replica: str, text: str, signature: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a message once; the most impatient platform waits for 3 s."""
        body = self.body(text)
        signature = self.signature(body) if signature is None else signature
        headers = {"Content-Type": "application/json", **signature}
        return httpx.post(replica + self.path, content=body, headers=headers, timeout=3)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The platform's API, at `url`."""
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                if raw.startswith("{"):
                    sent = json.loads(raw)
                else:
                    sent = {key: values[0] for key, values in parse_qs(raw).items()}
                path = self.path.partition("?")[0]
                answer = json.dumps(platform.reply(path, sent)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield
            finally:
                self.gate.set()
                server.shutdown()
                thread.join()


class Slack(Platform):
    path = "/slack/events"

    @property
    def conversation(self) -> str:  # type: ignore[override]
        return f"slack T1 {self.chat} "

    def update(self, text: str, number: int) -> dict[str, Any]:
        event = {
            "type": "message", "channel": self.chat, "channel_type": "im", "user": "U1",
            "text": text, "ts": f"{number}.000100", "event_ts": f"{number}.000100",
        }  # fmt: skip
        return {
            "token": "t", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
            "event_id": f"Ev{number}", "event_time": number, "event": event,
            "authorizations": [{"team_id": "T1", "user_id": "UBOT", "is_bot": True}],
        }  # fmt: skip

    def signature(self, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        text = f"v0:{now}:".encode() + body
        signed = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": now, "X-Slack-Signature": f"v0={signed}"}

    def reply(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("auth.test"):
            who = {"team": "t", "team_id": "T1", "user": "bot", "user_id": "UBOT", "bot_id": "B1"}
            return {"ok": True, "url": "https://t.slack.com/", **who}
        assert path.endswith("chat.postMessage"), path
        assert sent["channel"] == self.chat
        self.hear(sent["text"])
        return {"ok": True, "channel": self.chat, "ts": "1.1", "message": {"text": sent["text"]}}


class Telegram(Platform):
    path = "/telegram"

    @property
    def conversation(self) -> str:  # type: ignore[override]
        return f"telegram 42 {self.chat} "

    def update(self, text: str, number: int) -> dict[str, Any]:
        chat = {"id": int(self.chat), "type": "private", "first_name": "Anna"}
        who = {"id": int(self.chat), "is_bot": False, "first_name": "Anna"}
        message = {"message_id": number, "date": 1, "chat": chat, "from": who, "text": text}
        return {"update_id": number, "message": message}

    def signature(self, body: bytes) -> dict[str, str]:
        return {"X-Telegram-Bot-Api-Secret-Token": SECRET}

    def reply(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        assert path == "/bot42:token/sendMessage"
        assert sent["chat_id"] == self.chat
        self.hear(sent["text"])
        chat = {"id": int(self.chat), "type": "private"}
        result = {"message_id": 1, "date": 1, "chat": chat, "text": sent["text"]}
        return {"ok": True, "result": result}


class WhatsApp(Platform):
    path = "/whatsapp"

    @property
    def conversation(self) -> str:  # type: ignore[override]
        return f"whatsapp 106 {self.chat}"

    def update(self, text: str, number: int) -> dict[str, Any]:
        message = {
            "from": self.chat, "id": f"wamid.{number}", "timestamp": "1", "type": "text",
            "text": {"body": text},
        }  # fmt: skip
        value = {
            "messaging_product": "whatsapp", "messages": [message],
            "metadata": {"display_phone_number": "1", "phone_number_id": "106"},
        }  # fmt: skip
        changes = [{"value": value, "field": "messages"}]
        return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}

    def signature(self, body: bytes) -> dict[str, str]:
        signed = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        return {"X-Hub-Signature-256": f"sha256={signed}"}

    def reply(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        assert path == "/106/messages"
        assert sent["to"] == self.chat
        self.hear(sent["text"]["body"])
        return {"messaging_product": "whatsapp", "messages": [{"id": "wamid.reply"}]}
