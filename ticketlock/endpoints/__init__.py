"""Creates the components that an `endpoints.yml` names."""

from .file import EndpointConfig, Endpoints, read_endpoints, write_endpoints

__all__ = ["EndpointConfig", "Endpoints", "read_endpoints", "write_endpoints"]
