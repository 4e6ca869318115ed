"""Speed and cost, each a script that prints a table: python -m benchmarks.<name>."""
