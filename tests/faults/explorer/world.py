"""All of the model at one moment, and every step that can come next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ticketlock.locks.concurrent.scripts import Keys
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section

from .client import Client, Effects, View
from .redis_model import Executed, Frozen, ModelRedis
from .wire import Words, bell, encoded

#: Milliseconds: where the clock starts, and how far one tick turns it.
START, TICK = 1_700_000_000_000, 1300


class Budget(NamedTuple):
    """How many of each are still to happen.

    Attributes:
        turns: turns that each client begins.
        ticks: steps of the clock.
        drops: connections that break, with what was on its way lost.
        lates: of those, the ones whose requests reach the server some time later.
        crashes: processes that die.
        cancels: turns cancelled, waiting or running.
        beats: heartbeats.
        closes: stores closed, to be used again.
    """

    turns: int = 1
    ticks: int = 0
    drops: int = 0
    lates: int = 0
    crashes: int = 0
    cancels: int = 0
    beats: int = 0
    closes: int = 0


class Node(NamedTuple):
    """A client, and its connection: what is on its way in either direction.

    Attributes:
        client: a number by which `Clients` knows its state.
        out: commands that the server has not executed.
        back: answers and bells that the client has not heard.
        late: commands of broken connections, which the server may still execute.
        up: whether the process lives.
    """

    client: int
    begun: int = 0
    out: tuple[Words, ...] = ()
    back: tuple[bytes, ...] = ()
    late: tuple[Words, ...] = ()
    up: bool = True


class State(NamedTuple):
    now: int
    data: Frozen
    nodes: tuple[Node, ...]
    budget: Budget


class Step(NamedTuple):
    """What happens, and what comes of it; `words` is the command that was executed, if one was."""

    label: tuple[Any, ...]
    state: State
    words: Words | None = None


class Clients:
    """The states of clients, and what each event makes of them; nothing is worked out twice."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._known: dict[tuple[str, int], int] = {}
        self._histories: list[tuple[str, tuple[Any, ...]]] = []
        self._moves: dict[tuple[int, int, tuple[Any, ...]], tuple[int, Effects]] = {}
        self.views: list[View] = []
        #: The client of each name to which something happened last: often it goes on there.
        self._live: dict[str, tuple[int, Client]] = {}

    def new(self, name: str) -> int:
        """A client to which nothing has happened."""
        return self._number(Client(name, **self._options), ())

    def _number(self, client: Client, history: tuple[Any, ...]) -> int:
        key = (client.name, client.fingerprint())
        number = self._known.setdefault(key, len(self.views))
        if number == len(self.views):
            self.views.append(client.view())
            self._histories.append((client.name, history))
        self._live[client.name] = number, client
        return number

    def move(self, number: int, now: int, event: tuple[Any, ...]) -> tuple[int, Effects]:
        """The client after an event, and what it has done about it."""
        found = self._moves.get((number, now, event))
        if found is None:
            history = self._histories[number][1]
            client = self._client(number)
            effects = client.happen(now, event)
            if effects.need is not None:  # and the client is of no use any more
                found = number, effects
            else:
                found = self._number(client, (*history, (now, event))), effects
            self._moves[number, now, event] = found
        return found

    def _client(self, number: int) -> Client:
        """A live client in that state; it is the caller's to change."""
        name, history = self._histories[number]
        live, client = self._live.pop(name, (-1, None))
        if client is None or live != number:
            client = Client(name, **self._options)
            for moment, event in history:
                client.happen(moment, event)
        return client


class World:
    """Makes the steps.

    Args:
        options: of the clients; see `Client`.
    """

    def __init__(self, **options: Any) -> None:
        self.server = ModelRedis()
        #: Whether stores are closed: that ends turns.
        self.closes = False
        self.keys = Keys(RedisSettings.read(Section({}, "model")))
        self.clients = Clients(**options)

    def begin(self, clients: int, budget: Budget) -> State:
        self.closes = budget.closes > 0
        nodes = tuple(Node(self.clients.new(f"p{i}")) for i in range(clients))
        return State(START, (), nodes, budget)

    def view(self, node: Node) -> View:
        return self.clients.views[node.client]

    def steps(self, state: State) -> Iterator[Step]:
        """All that can happen next."""
        for i, node in enumerate(state.nodes):
            if node.late:
                yield self.execute_late(state, i)
            if node.up:
                yield from self._of_network(state, i, node)
                yield from self._of_process(state, i, node, self.view(node))
        if state.budget.ticks:
            yield Step(("tick",), self.tick(state, TICK), None)

    def tick(self, state: State, by: int) -> State:
        budget = state.budget
        budget = budget._replace(ticks=max(0, budget.ticks - 1))
        return state._replace(now=state.now + by, budget=budget)

    # -- the network and the server ---------------------------------------------------------------

    def _of_network(self, state: State, i: int, node: Node) -> Iterator[Step]:
        if node.out:
            yield self.execute(state, i)
        if node.back:
            yield self.hear(state, i, 1)
            if len(node.back) > 1:  # in one packet
                yield self.hear(state, i, len(node.back))
        budget = state.budget
        if budget.drops and (node.out or node.back):
            spent = state._replace(budget=budget._replace(drops=budget.drops - 1))
            yield Step(("drop", i, "lost"), self._happen(spent, i, ("drop",), keep=False))
            if budget.lates and node.out:
                spent = spent._replace(budget=spent.budget._replace(lates=budget.lates - 1))
                yield Step(("drop", i, "late"), self._happen(spent, i, ("drop",)))

    def execute(self, state: State, i: int) -> Step:
        """The server executes a client's next command."""
        node = state.nodes[i]
        words = node.out[0]
        done = self.server.execute(state.now, state.data, words)
        node = node._replace(out=node.out[1:], back=(*node.back, encoded(done.answer)))
        after = self._published(_with(state, i, node), done)
        return Step(("execute", i, self.server.name(words), done.answer), after, words)

    def execute_late(self, state: State, i: int) -> Step:
        """The server executes what came over a connection that is gone."""
        node = state.nodes[i]
        done = self.server.execute(state.now, state.data, node.late[0])
        after = self._published(_with(state, i, node._replace(late=node.late[1:])), done)
        name = self.server.name(node.late[0])
        return Step(("execute late", i, name, done.answer), after, node.late[0])

    def _published(self, state: State, done: Executed) -> State:
        """The state after a command's effects, its bells on their way."""
        state = state._replace(data=done.state)
        for channel, text in done.published:
            for i, node in enumerate(state.nodes):
                if node.up and channel in self.view(node).channels:
                    state = _with(state, i, node._replace(back=(*node.back, bell(channel, text))))
        return state

    def hear(self, state: State, i: int, count: int) -> Step:
        """A client hears so many answers and bells, in one packet."""
        node = state.nodes[i]
        data = b"".join(node.back[:count])
        state = _with(state, i, node._replace(back=node.back[count:]))
        return Step(("hear", i, data), self._happen(state, i, ("hear", data)))

    # -- the processes ----------------------------------------------------------------------------

    def _of_process(self, state: State, i: int, node: Node, view: View) -> Iterator[Step]:
        budget = state.budget
        # Clients are alike: they begin in their order.
        first = node.begun or i == 0 or state.nodes[i - 1].begun
        if node.begun < budget.turns and first:
            begun = _with(state, i, node._replace(begun=node.begun + 1))
            yield self.event(begun, i, "start")
        for turn, what in enumerate(view.turns):
            if what == "inside":
                yield self.event(state, i, "leave", turn)
            if what == "lingers":
                yield self.event(state, i, "linger", turn)
            if what in ("waits", "inside") and budget.cancels:
                yield self.event(_spent(state, "cancels"), i, "cancel", turn)
        if view.heard:
            yield self.event(state, i, "told")
        if 1000 * view.timer <= state.now:
            yield self.event(state, i, "timers")
        if budget.beats and view.beat < float("inf"):
            yield self.beat(_spent(state, "beats"), i)
        if budget.closes and node.begun:
            yield self.event(_spent(state, "closes"), i, "close")
        if budget.crashes and node.begun:
            spent = _spent(state, "crashes")
            down = node._replace(up=False, out=(), back=())
            yield Step(("crash", i), _with(spent, i, down))
            if budget.lates and node.out:
                spent = _spent(spent, "lates")
                yield Step(("crash", i, "late"), _with(spent, i, down._replace(late=node.out)))

    def event(self, state: State, i: int, name: str, *args: Any) -> Step:
        return Step((name, i, *args), self._happen(state, i, (name, *args)))

    def beat(self, state: State, i: int) -> Step:
        """A heartbeat: the server answers each of its calls at once."""
        answers: tuple[Any, ...] = ()
        while True:
            client, effects = self.clients.move(state.nodes[i].client, state.now, ("beat", answers))
            if effects.need is None:
                node = state.nodes[i]._replace(client=client)
                return Step(("beat", i, *answers), _with(state, i, node))
            done = self.server.execute(state.now, state.data, effects.need)
            answers = (*answers, done.answer)
            state = self._published(state, done)

    def _happen(self, state: State, i: int, event: tuple[Any, ...], *, keep: bool = True) -> State:
        """The state after an event of a client; `keep`: what is on a lost connection comes late."""
        node = state.nodes[i]
        client, effects = self.clients.move(node.client, state.now, event)
        if effects.lost:
            late = (*node.late, *node.out) if keep else node.late
            node = node._replace(out=(), back=(), late=late)
        return _with(state, i, node._replace(client=client, out=(*node.out, *effects.written)))


def _with(state: State, i: int, node: Node) -> State:
    return state._replace(nodes=(*state.nodes[:i], node, *state.nodes[i + 1 :]))


def _spent(state: State, what: str) -> State:
    left = getattr(state.budget, what) - 1
    return state._replace(budget=state.budget._replace(**{what: left}))
