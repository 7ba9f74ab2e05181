"""`ticketlock doctor`: what is wrong with the servers of an `endpoints.yml`, and what to do."""

from .examination import Doctor
from .finding import FAULTS, Finding
from .visit import Visit

__all__ = ["FAULTS", "Doctor", "Finding", "Visit"]
