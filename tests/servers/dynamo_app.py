"""A DynamoDB for tests: moto's server behind one lock. Run as `python dynamo_app.py <port>`.

Without the lock, moto's check of a condition and the write it guards are two steps, and two
conditional writes at the same moment can both succeed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_application = DomainDispatcherApplication(create_backend_app)
_lock = threading.Lock()


def locked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with _lock:
        return [b"".join(_application(environ, start_response))]


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), locked, threaded=True)
