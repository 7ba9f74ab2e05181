"""Where a Redis is, one multiplexed connection to it, and scripts that run there."""
