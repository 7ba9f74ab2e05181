"""Publishing of events: the broker's message, the interface of brokers, and the relay."""
