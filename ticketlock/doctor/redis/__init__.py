"""What can be wrong with a Redis or Valkey server, alone, behind sentinels or in a cluster."""
