"""Measurements that anyone can repeat: `python -m benchmarks --help`, docs/benchmarks.md."""
