"""The whole deployment as processes on this machine: sent to, killed, rolled, and judged.

`make e2e` runs it with all messages, a test runs it with a few.
"""
