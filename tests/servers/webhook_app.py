"""Replicas of an example with a webhook, whose platform is a fake one.

    python -m servers.webhook_app slack_bot URL-OF-THE-PLATFORM PORT...

The example is imported once and forked for each port: aiogram alone takes seconds to import.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module


def prepare(name: str, platform: str) -> Callable[[int], None]:
    """Import an example, and have it talk to that platform; the call that serves it at a port."""
    example = import_module(name)
    if name == "telegram_bot":
        from aiogram.client.telegram import TelegramAPIServer
        from aiohttp import web

        example.bot.session.api = TelegramAPIServer.from_base(platform)
        return lambda port: web.run_app(
            example.create_app(), host="127.0.0.1", port=port, print=None
        )
    import uvicorn

    if name == "slack_bot":
        example.app.client.base_url = f"{platform}/api/"
        app = example.api
    else:
        example.GRAPH = platform
        app = example.app
    return lambda port: uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def main(name: str, platform: str, *ports: str) -> None:
    """Serve until SIGTERM, or until no replica is left."""
    serve = prepare(name, platform)
    gc.freeze()  # else each process looks through all that was imported when it ends
    children: set[int] = set()
    for port in map(int, ports):
        if (pid := os.fork()) == 0:
            serve(port)
            sys.exit()
        children.add(pid)

    def stop(*signalled: object) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while children:
        pid, status = os.wait()
        children.discard(pid)
        print(f"{pid} ended with {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
