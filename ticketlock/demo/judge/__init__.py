"""The judge: finds violations in the stored, recorded and published events of a demo."""
