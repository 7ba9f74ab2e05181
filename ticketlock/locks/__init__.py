"""FIFO tickets, grants and fences, and the lock stores that issue them."""
