"""A process that measures: it reads calls from its input, one line of JSON each, and answers.

    python -m benchmarks.worker ADAPTER URL [--uvloop]

A call names a function of a workload, `module:function`, and its options; the function gets
the adapter first. For an adapter of threads `function_sync` is called instead.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from importlib import import_module
from typing import Any


def find(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(f"benchmarks.{module}"), function)


def answer(value: Any, cpu: float) -> None:
    print(json.dumps({"value": value, "cpu": time.process_time() - cpu}), flush=True)


async def serve(adapter: Any) -> None:
    """The worker of an asyncio adapter: its event loop goes on while it waits for calls."""
    await adapter.open()
    answer("open", time.process_time())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        call, cpu = json.loads(line), time.process_time()
        answer(await find(call["function"])(adapter, **call["options"]), cpu)
    await adapter.close()


def serve_sync(adapter: Any) -> None:
    adapter.open()
    answer("open", time.process_time())
    while line := sys.stdin.readline():
        call, cpu = json.loads(line), time.process_time()
        answer(find(call["function"] + "_sync")(adapter, **call["options"]), cpu)
    adapter.close()


def main() -> None:
    name, url, *flags = sys.argv[1:]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))
    adapter = import_module(f"benchmarks.adapters.{name}").Adapter(url)
    if not adapter.asynchronous:
        serve_sync(adapter)
    elif "--uvloop" in flags:
        import uvloop

        uvloop.run(serve(adapter))
    else:
        asyncio.run(serve(adapter))


if __name__ == "__main__":
    main()
