"""The history of a conversation, what a tracker store and its outbox are."""
