"""The event service: reads published events from a broker and stores each one once.

`ledger` (what is there of one conversation, and what is missing), `parsing` (from a message
to an event or a reject), `source` and `database` (the interfaces of what is behind it),
`service` (the loop between the two), `watch` (gaps that stay), `settings` (the section).
"""
