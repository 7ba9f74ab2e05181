"""Custom actions: run by an action server, over the documented protocol.

`settings.py` is the section `action_endpoint`, `server.py` the call, `wire.py` what goes over it.
"""
