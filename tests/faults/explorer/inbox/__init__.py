"""The explorer's world of submitted messages: the real scripts, and processes that are written down.

A process here is a few fields: what it has asked on its one connection, and the turns that it
believes to have. So states are cheap, and the scripts meet late answers, lost replies, repeated
commands, zombies and dead processes in every order. All bells are lost. `processes` says what a
process does, `world` what can happen, `invariants` what must never be; `search` goes through it,
and continues fairly.
"""
