"""Reads request bodies within limits: size, time, and the memory of all bodies together.

Every body that the server reads takes memory. So there is one budget for requests that are
authorized by their head, or need no authorization, and one for those with a signature over their
body, which must be read first.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..aio.running import within
from .errors import BadRequest, BodiesOverloaded, NotAuthenticated, SlowBody, TooLarge
from .settings import Settings

#: Bytes of each body that do not count, so that ordinary messages are accepted while others send
#: large bodies. Together they are limited by the number of connections.
FREE = 16 * 1024
#: Most bytes of a body with a signature, and seconds for it.
SIGNED_BODY, SIGNED_SECONDS = 256 * 1024, 5.0
#: Seconds between the answers to two bodies that were given up: hundreds at once, which are then
#: sent again, would delay all requests by a second.
APART = 0.005
#: The key of the reservation in the scope of a request.
_RESERVATION = "ticketlock.reservation"


class Budget:
    """A limit for the bytes of all bodies of a kind.

    Attributes:
        taken: bytes in use.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0

    def take(self, count: int) -> None:
        """Take bytes. Raises BodiesOverloaded if they exceed the limit."""
        if self.taken + count > self._size:
            raise BodiesOverloaded(
                "this server has no room for more request bodies (body_budget); send it again"
            )
        self.taken += count

    def give_back(self, count: int) -> None:
        self.taken -= count


class Reservation:
    """The bytes of one request, until it is answered.

    Args:
        lock: shared by all requests; bodies that are given up are answered one by one.
    """

    def __init__(self, known: Budget, signed: Budget, lock: asyncio.Lock) -> None:
        self._known, self._signed = known, signed
        self._lock = lock
        self._size = 0
        self._budget = known
        self._taken = 0

    def signed(self) -> None:
        """Use the budget for signed bodies, because its client is not known yet."""
        self._budget = self._signed

    def grow(self, count: int) -> None:
        """Add bytes. Raises BodiesOverloaded."""
        self._size += count
        if (more := max(0, self._size - FREE) - self._taken) > 0:
            self._budget.take(more)
            self._taken += more

    async def give_up(self) -> None:
        """Release the bytes, and wait until it may be answered."""
        self.release()
        async with self._lock:
            await asyncio.sleep(APART)

    def release(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0


class Intake:
    """Middleware that gives each request a reservation in the two budgets."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._known = Budget(settings.body_budget)
        self._signed = Budget(settings.signed_body_budget)
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reservation = scope[_RESERVATION] = Reservation(self._known, self._signed, self._lock)
        try:
            await self._app(scope, receive, send)
        finally:
            reservation.release()


def read_body(request: Request, settings: Settings) -> Awaitable[bytes]:
    """The body of a request that was authorized by its head.

    Raises TooLarge, without reading on; SlowBody, BodiesOverloaded, BadRequest.
    """
    return _read(request, settings.max_body, settings.body_timeout)


async def read_signed(
    request: Request, verify: Callable[[bytes], bool], limit: int = SIGNED_BODY
) -> bytes:
    """The body of a request with a signature over it, verified; parse it only after that.

    Args:
        limit: most bytes.
        verify: returns whether the signature of these bytes is right, compared in constant time,
            as by `signed_by`.

    Raises as `read_body`, and NotAuthenticated.
    """
    request.scope[_RESERVATION].signed()
    body = await _read(request, limit, SIGNED_SECONDS)
    if not verify(body):
        raise NotAuthenticated(
            "the signature, or secret token, does not match: check the channel's secret on both sides"
        )
    return body


def signed_by(secret: str, body: bytes, signature: str, prefix: str = "sha256=") -> bool:
    """Whether `signature` is the hexadecimal HMAC-SHA256 of the body, in constant time."""
    made = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(made.encode(), signature.encode("utf-8", "replace"))


async def _read(request: Request, limit: int, seconds: float) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    reservation: Reservation = request.scope[_RESERVATION]
    try:
        return await within(seconds, _chunks(request.receive, reservation, limit))
    except asyncio.TimeoutError:
        await reservation.give_up()
        raise SlowBody(f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        await reservation.give_up()
        raise BadRequest("the body is incomplete") from None


async def _chunks(receive: Receive, reservation: Reservation, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        try:
            reservation.grow(len(chunk))
        except BodiesOverloaded:  # its bytes are free for the others before it is answered
            body.clear()
            reservation.release()
            raise
        body += chunk
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes")
