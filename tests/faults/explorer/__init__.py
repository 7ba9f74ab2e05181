"""An explorer of the protocol: every order in which things can happen, up to a bound.

The real `lua/*.lua` run in Lua 5.1 over a small model of Redis (`redis_model`), and the real
`ConcurrentRedisLockStore`, with its engine, link and heartbeat, runs on an event loop that does
one step when it is told to (`loop`, `wire`, `client`). Both have the same clock, which stands
still unless the search turns it. `world` says what can happen next, `invariants` what must
never be, `search` goes through it breadth first, so that a trace it shows is a shortest one.

`make explore` runs the large bounds; `tests/faults/test_explorer.py` runs small ones, and
seeded mutants that the invariants must catch.
"""
