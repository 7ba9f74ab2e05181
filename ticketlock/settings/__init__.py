"""A section of `endpoints.yml`, read and checked, and the keys that each may have."""
