"""Measure speed and cost: each script prints a table when run as `python -m benchmarks.<name>`."""
