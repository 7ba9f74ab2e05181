"""Tracker stores, one file a backend. Core names them in `ticketlock.registry` alone."""
