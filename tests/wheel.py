"""Import every module of the installed packages: `make wheel` runs it where nothing but the wheel is installed."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pipeline
import stages


def main() -> None:
    names = [
        module.name
        for package in (pipeline, stages)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    for name in (name for name in names if not name.endswith(".__main__")):
        importlib.import_module(name)
    print(f"{len(names)} modules of {Path(pipeline.__file__).parents[1]} can be imported")


if __name__ == "__main__":
    main()
