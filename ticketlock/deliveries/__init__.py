"""Sending the replies of turns out: in order for each conversation, at least once.

`Sender` takes what waits of a conversation and passes it to a `Destination`: `Callback` is the
documented channel, `OnReply` a function. docs/deliveries.md says what receivers can rely on.
"""
