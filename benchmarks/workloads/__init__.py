"""What is measured, one file a workload; `catalogue.py` has their letters.

Each has `TITLE`, `run(bench)`, `report(rows)` (Markdown) and `bars(rows)` for the parent process.
What worker processes call is `name(adapter, ...)` for asyncio adapters and `name_sync` for those
of threads; it is in modules that import nothing of ours, for they run in the peers' environments.
"""
