"""A connection to RabbitMQ, driven by pika's own loop in one thread."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop

from ticketlock.errors import EventBrokerConnectionError

from .parameters import PikaSettings

#: Text for a connection that breaks while it is opened. pika guesses the reason from the step, but
#: the server or the network may have failed as well.
_BROKE = "the connection broke while it was being opened: the server or the network is failing, or "

#: (part of an error of pika or the system, what to change, whether another attempt may succeed)
_ADVICE = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        (
            "its certificate is not trusted: check the URL parameter "
            "cacertfile, and the host's name in the certificate"
        ),
        False,
    ),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS there: check port and url", False),
    ("record layer failure", "it does not speak TLS there: check port and url", False),
    (
        "certificate required",
        (
            "it requires a client certificate: set RABBITMQ_SSL_CLIENT_CERTIFICATE "
            "and RABBITMQ_SSL_CLIENT_KEY"
        ),
        False,
    ),
    (
        "unknown ca",
        "it does not trust our certificate: check RABBITMQ_SSL_CLIENT_CERTIFICATE",
        False,
    ),
    (
        "IncompatibleProtocolError: StreamLostError",
        _BROKE + "it does not speak AMQP 0-9-1 there, or it requires TLS (amqps://) or a client "
        "certificate: check url and port",
        True,
    ),
    (
        "ProbableAuthenticationError: StreamLostError",
        _BROKE + "it does not accept the login: check username and password",
        True,
    ),
    (
        "ProbableAccessDeniedError: StreamLostError",
        _BROKE + "the user may not use the virtual host, or it does not exist",
        True,
    ),
    ("ProbableAuthenticationError", "it refused the login: check username and password", False),
    ("ACCESS_REFUSED - Login", "it refused the login: check username and password", False),
    (
        "ProbableAccessDeniedError",
        "the user may not use the virtual host, or it does not exist",
        False,
    ),
    (
        "ACCESS_REFUSED",
        (
            "the user lacks a right: allow it to configure, write and read the exchange "
            "and the queues"
        ),
        False,
    ),
    (
        "IncompatibleProtocolError",
        (
            "it does not speak AMQP 0-9-1 there, or it requires TLS (amqps://) "
            "or a client certificate: check url and port"
        ),
        False,
    ),
    ("Name or service not known", "the host is not known: check url", False),
    ("No address associated", "the host is not known: check url", False),
    ("nodename nor servname", "the host is not known: check url", False),
    ("name resolution", "the host name cannot be resolved: check url", True),
    ("refused", "nothing listens there: check url and port, and that the server runs", True),
    ("imeout", "no answer in time: check url, port and the network between", True),
)


#: The routing key of every message and binding.
ROUTING_KEY = ""


class PikaLink:
    """A connection, its channel in confirm mode, and the exchange with its queues.

    All methods run in the thread that owns it. `end` is a time of the monotonic clock.
    """

    #: The connection's name in the server's list.
    name = "ticketlock event broker"

    def __init__(self, settings: PikaSettings) -> None:
        self.settings = settings
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._connection: Any = None
        self._channel: Any = None
        self._lost: BaseException | None = None
        self._bound = False
        self._sent = 0
        self._acked: dict[int, bool] = {}
        self._open_tags: dict[int, None] = {}  # in the order of sending
        self._returned: set[str] = set()
        #: Why the server accepts no messages at the moment, such as "low on memory"; else None.
        self.blocked: str | None = None
        #: The error that closed the channel or the connection last.
        self.reason: BaseException | None = None

    @property
    def is_ready(self) -> bool:
        """Whether exchange and queues are declared, and the server accepts messages."""
        return self._bound and self.is_open and self._channel.is_open and self.blocked is None

    @property
    def is_open(self) -> bool:
        """Whether the connection is usable, as far as is known."""
        return self._lost is None and self._connection is not None and self._connection.is_open

    def pump(self, done: Callable[[], object], end: float) -> bool:
        """Run the connection until `done()` is true; False if `end` comes first."""
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            bound = self._loop.call_later(left, lambda: None)  # it may sleep longer without one
            self._loop.poll()
            self._loop.process_timeouts()
            self._loop.remove_timeout(bound)
        return True

    def keep_alive(self) -> None:
        """Answer heartbeats, and notice a closed connection."""
        if self._connection is not None:
            for _ in range(3):  # read, answer, and handle the consequences
                bound = self._loop.call_later(0, lambda: None)
                self._loop.poll()
                self._loop.process_timeouts()
                self._loop.remove_timeout(bound)

    def open(self, end: float) -> None:
        """Connect, open the channel and declare the topology, as far as needed.

        Raises EventBrokerConnectionError.
        """
        if not self.is_open:
            self._connect(end)
        if self._channel is None or not self._channel.is_open:
            self._open_channel(end)
        if not self._bound:
            self._declare(end)

    def _connect(self, end: float) -> None:
        self.drop()
        self._lost = None
        opened: list[Any] = []
        self._connection = pika.SelectConnection(
            self.settings.connection_parameters(self.name),
            on_open_callback=opened.append,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        if not self.pump(lambda: opened or self._lost, end):
            self.drop()
            raise self.explain(TimeoutError("Timeout while connecting"))
        if self._lost is not None:
            raise self.explain(self._lost)

    def _open_channel(self, end: float) -> None:
        self._bound = False
        self._sent = 0
        self._acked.clear()
        self._open_tags.clear()
        opened: list[Any] = []
        channel = self._channel = self._connection.channel(on_open_callback=opened.append)
        channel.add_on_close_callback(self._on_channel_closed)
        self._wait(channel, opened, end)
        confirmed: list[Any] = []
        channel.confirm_delivery(self._on_confirm, callback=confirmed.append)
        self._wait(channel, confirmed, end)
        channel.add_on_return_callback(self._on_return)

    def _declare(self, end: float) -> None:
        """Declare a durable fanout exchange and durable queues, and bind them.

        Existing ones are used as they are. An existing exchange may be of another kind: direct,
        topic and headers exchanges also route the messages to queues bound with ROUTING_KEY.
        """
        name = self.settings.exchange
        self._declare_one("exchange", name, end, exchange_type="fanout", durable=True)
        for queue in self.settings.queues:
            self._declare_one("queue", queue, end, durable=True)
            # pika's default is the queue's name, which works with a fanout exchange only.
            self._ask("queue_bind", end, queue=queue, exchange=name, routing_key=ROUTING_KEY)
        self._bound = True

    def _declare_one(self, what: str, name: str, end: float, **wanted: Any) -> None:
        if self._channel is None or not self._channel.is_open:
            self._open_channel(end)
        try:
            self._ask(f"{what}_declare", end, **{what: name}, **wanted)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 406:
                raise self.explain(error) from error
            # It exists with other properties: not durable (as other systems create the
            # exchange), or another kind of queue. That is assumed to be on purpose.
            self._is_other(what, error)
            self._open_channel(end)
            self._ask(f"{what}_declare", end, **{what: name}, passive=True)

    def _is_other(self, what: str, error: BaseException) -> None:
        """Called for an existing exchange or queue with other properties."""

    def _ask(self, method: str, end: float, **arguments: Any) -> None:
        answered: list[Any] = []
        getattr(self._channel, method)(**arguments, callback=answered.append)
        self._wait(self._channel, answered, end)

    def _wait(self, channel: Any, answered: list[Any], end: float) -> None:
        if not self.pump(lambda: answered or channel.is_closed or self._lost, end):
            self.drop()
            raise self.explain(TimeoutError("Timeout while setting up"))
        if self._lost is not None:
            raise self.explain(self._lost)
        if not answered:
            closed = self.reason or ConnectionError("the channel was closed")
            if isinstance(closed, pika.exceptions.ChannelClosedByBroker):
                raise closed
            raise self.explain(closed)

    def publish(self, bodies: Sequence[tuple[bytes, Any]], end: float) -> list[str | None]:
        """Send, and wait for the confirmations.

        Returns:
            For each message: `acked`; `nacked` by a queue; `returned` because no queue is bound;
            or None if the channel or the connection was closed, or the time ran out, before.
        """
        self._returned.clear()
        channel, tags = self._channel, []
        for i, (body, properties) in enumerate(bodies):
            if not channel.is_open or time.monotonic() >= end:
                break
            self._sent += 1
            tags.append(self._sent)
            self._open_tags[self._sent] = None
            channel.basic_publish(
                self.settings.exchange, ROUTING_KEY, body, properties, mandatory=True
            )
            if i % 100 == 99:
                self.keep_alive()
        self.pump(lambda: not self._open_tags or not channel.is_open, end)
        results: list[str | None] = [None] * len(bodies)
        for i, tag in enumerate(tags):
            if tag in self._acked:
                acked = "acked" if self._acked.pop(tag) else "nacked"
                returned = bodies[i][1].message_id in self._returned
                results[i] = "returned" if returned and acked == "acked" else acked
        if self._open_tags and channel.is_open:
            self.drop()  # ignore later confirmations
        return results

    def forget_topology(self) -> None:
        """Declare exchange and queues again before the next message."""
        self._bound = False

    def drop(self) -> None:
        """Disconnect; without the server's consent if it does not answer within half a second."""
        connection, self._connection = self._connection, None
        self._channel, self._bound, self.blocked = None, False, None
        if connection is None or connection.is_closed:
            return
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()
        if not self.pump(lambda: connection.is_closed, time.monotonic() + 0.5):
            # pika has no public way to close a connection whose server is silent.
            connection._terminate_stream(ConnectionError("dropped"))  # noqa: SLF001  # see above
            self.pump(lambda: connection.is_closed, time.monotonic() + 0.5)

    def close(self) -> None:
        """Disconnect, and end the loop."""
        self.drop()
        self._loop.deactivate_poller()
        self._loop.close()

    def explain(self, error: BaseException) -> EventBrokerConnectionError:
        """The error to raise: which server, why, and what to change."""
        if isinstance(error, EventBrokerConnectionError):
            return error
        text = _chain(error).replace(self.settings.password, "***")
        where = self.settings.address
        # Of pika's errors around it only the names are known: "AMQPConnectionError: ".
        said = [one for one in text.split("; ") if not one.endswith(": ")]
        shown = "; ".join(said)[:300] or text[:300]
        for part, advice, again in _ADVICE:
            if part.lower() in text.lower():
                return EventBrokerConnectionError(f"{where}: {advice} ({shown})", again)
        return EventBrokerConnectionError(f"{where}: {shown}")

    # -- callbacks of pika ---------------------------------------------------------------------

    def _on_lost(self, connection: Any, error: BaseException) -> None:
        if connection is self._connection:  # not one that was dropped before
            self._lost = self.reason = error

    def _on_channel_closed(self, channel: Any, error: BaseException) -> None:
        if channel is self._channel:
            self.reason = error

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = None

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        done = [tag]
        if frame.method.multiple:
            done = list(itertools.takewhile(lambda one: one <= tag, self._open_tags))
        for one in done:
            self._open_tags.pop(one, None)
            self._acked[one] = isinstance(frame.method, pika.spec.Basic.Ack)

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self._returned.add(properties.message_id)


def _chain(error: Any) -> str:
    """The texts of an error and of its causes: pika wraps errors of the system."""
    texts: list[str] = []
    todo = [error]
    while todo and len(texts) < 8:
        one = todo.pop(0)
        if not isinstance(one, BaseException):
            continue
        texts.append(f"{type(one).__name__}: {one}")
        todo += [*getattr(one, "exceptions", ()), getattr(one, "exception", None), *one.args]
        todo.append(one.__cause__)
    return "; ".join(dict.fromkeys(texts))
