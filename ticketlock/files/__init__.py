"""Files and folders: temporary ones, and private ones."""
