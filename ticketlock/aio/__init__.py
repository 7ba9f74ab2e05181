"""Additions to asyncio: waiting, back-off, signals, slices of work, loops in threads."""
