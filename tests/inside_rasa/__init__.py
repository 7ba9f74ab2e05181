"""The classes of this library inside a real Rasa server: two replicas, bursts, kills.

`make rasa` runs it, or says why it cannot be run: Rasa needs Python 3.10 and an environment of
its own, because its pins exclude what the other tests use.
"""
