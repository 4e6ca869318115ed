"""Import every module of the installed packages, and load the bundled model.

`make wheel` runs it where nothing but the wheel is installed.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pipeline
import stages
from pipeline.inference import Recogniser
from pipeline.inference.bundled_model import bundled_model


def main() -> None:
    names = [
        module.name
        for package in (pipeline, stages)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    for name in (name for name in names if not name.endswith(".__main__")):
        importlib.import_module(name)
    model = bundled_model()
    assert model.is_relative_to(sys.prefix), f"the bundled model is not from the wheel but {model}"
    Recogniser(model, detect=False)
    print(f"{len(names)} modules of {Path(pipeline.__file__).parents[1]} can be imported")


if __name__ == "__main__":
    main()
