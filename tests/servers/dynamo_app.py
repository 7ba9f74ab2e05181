"""A DynamoDB for tests: moto's server behind one lock. Run as `python dynamo_app.py <port>`.

Without the lock, moto's check of a condition and the write it guards are two steps, and two
conditional writes at the same moment can both succeed.

moto throttles nothing. A POST of JSON to /ticketlock/throttle makes it: `operation`, `times`, and
either `reasons`, of a cancelled transaction, or `keep`, how many items of a batch are left undone.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_application = DomainDispatcherApplication(create_backend_app)
_lock = threading.Lock()


#: What is to be throttled; see above.
_plan: dict[str, Any] = {"times": 0}


def locked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with _lock:
        if environ["PATH_INFO"] == "/ticketlock/throttle":
            _plan.update({"reasons": None, "keep": 0, **json.loads(_body(environ))})
            return _answer(start_response, "200 OK", {"left": _plan["times"]})
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if _plan["times"] and operation == _plan["operation"]:
            _plan["times"] -= 1
            return _throttled(environ, start_response)
        return [b"".join(_application(environ, start_response))]


def _throttled(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if _plan["reasons"] is None:
        (table, requests), *_ = json.loads(_body(environ))["RequestItems"].items()
        left = {table: requests[: _plan["keep"]]} if requests else {}
        return _answer(start_response, "200 OK", {"UnprocessedItems": left})
    said = ", ".join(_plan["reasons"])
    text = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{said}]"
    return _answer(
        start_response,
        "400 Bad Request",
        {
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": text,
            "CancellationReasons": [{"Code": reason} for reason in _plan["reasons"]],
        },
    )


def _body(environ: dict[str, Any]) -> bytes:
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def _answer(
    start_response: Callable[..., Any], status: str, document: dict[str, Any]
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/x-amz-json-1.0")])
    return [json.dumps(document).encode()]


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), locked, threaded=True)
