"""The fixtures of the contract suite, for tests of one implementation."""

from __future__ import annotations

from contract.conftest import Stores, pytest_pyfunc_call

__all__ = ["Stores", "pytest_pyfunc_call"]
