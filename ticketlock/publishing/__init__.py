"""From the outbox to the broker: message, broker, relay."""
