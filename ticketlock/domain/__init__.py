"""The domain of a bot: slots with initial values, responses by name, and when a session ends."""

from .domain import Domain, SessionConfig
from .reading import read_domain
from .slots import Slot

__all__ = ["Domain", "SessionConfig", "Slot", "read_domain"]
