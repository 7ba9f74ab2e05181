"""Bodies of requests: read within a size, a time, and a budget for all of them together.

Whoever sends a body to a server that reads it makes it hold that body. So what all requests hold
at once has a bound, one for those whose head has shown who sends them (or that ask nobody), and
one for those that can be judged by their body alone, signed ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import BadRequest, BodiesOverloaded, NotAuthenticated, SlowBody, TooLarge
from .settings import Settings

#: Bytes of a body that cost nothing: ordinary messages come in however much others send. What
#: those hold together is bounded by the number of connections.
FREE = 16 * 1024
#: Bytes of a body that is read before its sender is known, and seconds in which it must come.
SIGNED_BODY, SIGNED_SECONDS = 256 * 1024, 5.0
#: Seconds between two bodies that are given up: hundreds of them at once, which then come again,
#: would hold up everybody for a second.
APART = 0.005
#: Where a request's scope has what it holds.
_HELD = "ticketlock.held"


class Budget:
    """Bytes that all requests of a kind may hold at once.

    Attributes:
        taken: how many they hold.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0

    def take(self, count: int) -> None:
        """Raises BodiesOverloaded."""
        if self.taken + count > self._size:
            raise BodiesOverloaded(
                "this server has no room for more request bodies (body_budget); send it again"
            )
        self.taken += count

    def give_back(self, count: int) -> None:
        self.taken -= count


class Held:
    """What one request holds, until it is answered.

    Args:
        door: through which those go one by one whose body is given up.
    """

    def __init__(self, known: Budget, signed: Budget, door: asyncio.Lock) -> None:
        self._known, self._signed = known, signed
        self._door = door
        self._size = 0
        self._budget = known
        self._taken = 0

    def signed(self) -> None:
        """It has not shown yet who sends it: it takes of the other budget."""
        self._budget = self._signed

    def grow(self, count: int) -> None:
        """It holds so many bytes more. Raises BodiesOverloaded."""
        self._size += count
        if (more := max(0, self._size - FREE) - self._taken) > 0:
            self._budget.take(more)
            self._taken += more

    async def give_up(self) -> None:
        """Let go of it, and wait until it is this one's turn to be answered."""
        self.release()
        async with self._door:
            await asyncio.sleep(APART)

    def release(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0


class Intake:
    """The middleware that keeps the two budgets."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._known = Budget(settings.body_budget)
        self._signed = Budget(settings.signed_body_budget)
        self._door = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = scope[_HELD] = Held(self._known, self._signed, self._door)
        try:
            await self._app(scope, receive, send)
        finally:
            held.release()


async def read_body(request: Request, settings: Settings) -> bytes:
    """The body of a request whose head was judged.

    Raises TooLarge without reading on, SlowBody, BodiesOverloaded, and BadRequest.
    """
    return await _read(request, settings.max_body, settings.body_timeout)


async def read_signed(request: Request, verify: Callable[[bytes], bool]) -> bytes:
    """The body of a request that proves itself by a signature over its body, verified.

    It is to be parsed only now.

    Args:
        verify: whether the signature of these bytes is right; it compares in constant time, as
            `signed_by` does.

    Raises as `read_body`, and NotAuthenticated.
    """
    request.scope[_HELD].signed()
    body = await _read(request, SIGNED_BODY, SIGNED_SECONDS)
    if not verify(body):
        raise NotAuthenticated("the signature does not match the body")
    return body


def signed_by(secret: str, body: bytes, signature: str, prefix: str = "sha256=") -> bool:
    """Whether it is the body's HMAC-SHA256 in hexadecimal, in a time that does not tell how much
    of it is right.
    """
    made = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(made.encode(), signature.encode("utf-8", "replace"))


async def _read(request: Request, limit: int, seconds: float) -> bytes:
    too_large = TooLarge(f"the body has more than {limit} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise too_large
    held: Held = request.scope[_HELD]

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise too_large
            held.grow(len(chunk))
            body += chunk
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        await held.give_up()
        raise SlowBody(f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        await held.give_up()
        raise BadRequest("the body is incomplete") from None
