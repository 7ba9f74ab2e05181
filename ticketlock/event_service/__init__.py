"""The event service: reads published events from a broker and stores each one once.

`service` is the loop between `source` and `database`, the interfaces of broker and database.
`parsing` turns a message into an event or a reject (`records`). `ledger` knows which events of a
conversation are stored and which are missing, `watch` logs gaps that stay, `settings` are the
keys of the section.
"""
