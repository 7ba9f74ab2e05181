"""What a demo has stored, recorded and published in, violations out."""
