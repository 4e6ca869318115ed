"""Remove what the pipeline wrote: its outputs, its checkpoints and its measurement of the machine (`make clean`).

Files of yours stay, in `outputs/` too; what stays there is named. DVC's cache, MLflow's store and `.venv` stay as well.
"""

from __future__ import annotations

from pipeline import cli, config, workspace


def main() -> None:
    grid = config.load().grid
    for path in workspace.clean(f"{model}-{seed}" for model, seed in grid.pairs()):
        print(f"{path} stays: the pipeline did not write it, or not for a model that it knows")


if __name__ == "__main__":
    cli.run(main)
