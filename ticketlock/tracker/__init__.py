"""Trackers (the events of a conversation), and the interfaces of tracker store and outbox."""
