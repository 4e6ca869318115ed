"""The commands around the stages: `fer COMMAND`, or `python -m pipeline COMMAND`.

Each imports what it needs when it starts, so that help takes no seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from pipeline import cli
from pipeline.cli import Name, Number

CORES = os.cpu_count() or 1

fer = click.Group("fer", no_args_is_help=False, epilog="Example: fer sweep --help")
fer.help = "What there is to do around `dvc repro`: search, train, keep and report the study."


@fer.command(epilog="Example: fer sweep --workers 2 --model baseline --seed 0 --seed 1")
@click.option("--workers", type=Number(1, CORES), default=min(2, CORES), help="Cells at a time, one a core.")
@click.option("--model", "models", type=Name(), multiple=True, help="Of grid.models, not all; repeatable.")
@click.option("--seed", "seeds", type=Number(0), multiple=True, help="Of grid.seeds, not all; repeatable.")
def sweep(workers: int, models: Sequence[str], seeds: Sequence[int]) -> None:
    """Train, evaluate and keep the cells of the grid.

    What `dvc repro` does one by one, several at a time. Each finished cell is kept in results/<data set>/runs/; one
    that is there with the same settings, data, words and decoders is not run again, so a study may be stopped at any
    time and continued. That the code has changed does not count: after a change of what a training computes, remove
    the runs. Run `dvc repro targets` first, and `fer report` afterwards. The log of each cell is in .study/.
    """
    from pipeline.study import sweep

    sweep.sweep(workers, models, seeds)


@fer.command(epilog="Example: fer search baseline")
@click.argument("models", type=Name(), nargs=-1, help="Under `models:`; none: the first of each kind.")
def search(models: Sequence[str]) -> None:
    """Choose learning rates on PublicTest.

    Every trial is kept in results/<data set>/learning_rates.json, so a search that was interrupted goes on, and two may
    run side by side with different models. The winners are written into params.yaml by hand.
    """
    from pipeline.study import lr_search

    lr_search.search(models)


@fer.command(epilog="Example: fer report")
def report() -> None:
    """Write the study from the runs in results/fer2013.

    It needs neither the data nor a training. MLflow gets the runs and the comparison, as `fer2013-study`.
    """
    from pipeline.study import report

    report.report()


@fer.command(epilog="Example: fer publish")
@click.argument(
    "name", type=Name(), required=False, help="A folder there, for runs that are not the study's."
)
def publish(name: str | None) -> None:
    """Keep finished runs in results/<data set>, for git.

    All evaluated cells of the grid; those of an earlier grid stay.
    """
    from pipeline.study import publish

    publish.publish(name)


@fer.command(epilog="Example: fer speedrun speedrun-fast")
@click.argument("experiments", type=Name(), nargs=-1, help="Names of DVC experiments; none: the workspace.")
def speedrun(experiments: Sequence[str]) -> None:
    """Keep when the baseline passed which accuracy.

    In results/<data set>/speedrun.json, with a figure beside it. `make speedrun` runs the experiments first.
    """
    from pipeline.study import speedrun

    speedrun.speedrun(experiments)


@fer.command(epilog="Example: fer backfill")
def backfill() -> None:
    """Restore MLflow runs that are missing.

    They are made of the outputs; what is complete is left alone, so running it twice changes nothing.
    """
    from pipeline.tracking import backfill

    backfill.backfill()


@fer.command(epilog="Example: fer clean")
def clean() -> None:
    """Remove what the pipeline wrote.

    Its outputs, its checkpoints and its measurement of the machine. Files of yours stay, in outputs/ too; what stays
    there is named. DVC's cache, MLflow's store and .venv stay as well.
    """
    from pipeline import config, workspace

    grid = config.load().grid
    for path in workspace.clean(f"{model}-{seed}" for model, seed in grid.pairs()):
        print(f"{path} stays: the pipeline did not write it, or not for a model that it knows")


def main() -> None:
    """Run what is typed after `fer`."""
    cli.run(fer)


if __name__ == "__main__":
    main()
