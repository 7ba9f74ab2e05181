"""`ticketlock stress` on each topology and each server, minutes each, with dated results.

`docs/reliability.md` shows them.
"""
