"""The operator's page: its data, its actions, its files."""
