"""Publishing the histories that a tracker store has."""
