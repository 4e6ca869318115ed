"""The stages of dvc.yaml, each run as `python -m stages.<name>`: read params, call the library, write, log."""
