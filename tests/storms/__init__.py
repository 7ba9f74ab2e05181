"""Storms: worker processes on real servers, all of which are killed, stopped and worse.

`make storms` runs them for minutes, on one server, a cluster or a Sentinel set; a test runs a short
one on one server.
"""
