"""The durable inbox: messages that were accepted are handled, whatever process dies.

`submission.py` says what is submitted and what becomes of it, `inbox.py` what an inbox does;
`redis.py` is the one on Redis (scripts: `lua/inbox.lua`), `local.py` that of other lock stores.
"""
