"""The lock store for replicas on one Redis: `ConcurrentRedisLockStore`."""
