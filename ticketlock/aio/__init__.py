"""What asyncio does not have: waiting, slices of work, loops in threads."""
