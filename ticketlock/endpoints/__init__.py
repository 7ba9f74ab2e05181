"""From an `endpoints.yml` to the components that it names."""

from .file import EndpointConfig, Endpoints, read_endpoints, write_endpoints

__all__ = ["EndpointConfig", "Endpoints", "read_endpoints", "write_endpoints"]
