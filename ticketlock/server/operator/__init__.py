"""The operator's page, and what it shows and does."""
