"""The fixtures of the contract suite, for tests of one implementation."""

from __future__ import annotations

from contract.conftest import Stores, pytest_pyfunc_call, tracker_sections

__all__ = ["Stores", "pytest_pyfunc_call", "tracker_sections"]
