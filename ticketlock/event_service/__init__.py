"""The event service: reads published events from a broker and stores each one once.

`ledger` (what is there of one conversation, and what is missing), `records` (an event as
received, and a reject), `parsing` (from a message to one of them), `source` and `database` (the
interfaces of what is behind it), `service` (the loop between the two), `watch` (gaps that stay),
`settings` (the section).
"""
