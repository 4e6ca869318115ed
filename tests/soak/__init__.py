"""Faults at scale: long, seeded searches for what breaks a promise.

`make soak` runs them all, the tests run a little of each. Each module is a command, `python -m tests.soak.<name>`
with `--cases` and `--seed`, and a row of docs/reliability.md.
"""
