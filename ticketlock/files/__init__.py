"""Files and folders of this machine: temporary ones, and those for their owner alone."""
