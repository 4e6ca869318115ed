"""Provide the commands around the stages: `fer COMMAND`, or `python -m pipeline COMMAND`.

Each command imports what it needs when it starts, so that help is instant.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline import cli
from pipeline.cli import Address, Name, Number, Readable, Seconds, Share
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.study.executor import Placement

CORES = os.cpu_count() or 1
F = TypeVar("F", bound=Callable[..., Any])

fer = click.Group("fer", no_args_is_help=False, epilog="Example: fer sweep --help")
fer.help = "Commands around `dvc repro`: read faces; search, train, keep and report the study."


@fer.command(epilog="Example: fer predict photo.jpg --model outputs/models/baseline-0")
@click.argument("source", type=Readable(), help="A picture, a folder, a video, or - for a picture on standard input.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The folder of a trained and exported model, or an ONNX file of outputs/onnx; by default the bundled"
    " model, trained on FER-2013.",
)
@click.option("--no-detect", is_flag=True, help="Each picture is a face already: search for none.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per picture, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV table with a row per face.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder for copies of the pictures with boxes drawn.",
)
@click.option("--every", type=Seconds(0.01, 3600), default=1.0, help="Seconds between the frames read from a video.")
@click.option("--threads", type=Number(0, CORES), default=0, help="Threads of the model; 0 for one per core.")
def predict(
    source: Path,
    model: Path | None,
    no_detect: bool,
    as_json: bool,
    as_csv: bool,
    save: Path | None,
    every: float,
    threads: int,
) -> None:
    """Read the expression of every face in pictures.

    Prints where each face is and its two most probable expressions, with probabilities. Needs neither PyTorch nor the
    data. A file that cannot be read is named in a sentence, the others follow, and the exit code is 1; a picture
    without a face is no error.
    """
    from pipeline.inference import command

    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two forms of the output: choose one.")
    form = "json" if as_json else "csv" if as_csv else "table"
    command.predict(source, model, not no_detect, form, save, every, threads)


@fer.command(
    epilog="Example: fer demo --model outputs/models/baseline-0 --model outputs/models/w2v_cosine-0",
    short_help="Open a page to try a model, with photographs or the camera.",
)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    help="The folder of a trained and exported model, or an ONNX file; repeat it to compare several. By default the"
    " bundled model, trained on FER-2013.",
)
@click.option("--port", type=Number(0, 65535), default=8000, help="The port to listen on; 0 for any free one.")
@click.option("--threads", type=Number(0, CORES), default=0, help="Threads of a model; 0 for one per core.")
def demo(models: Sequence[Path], port: int, threads: int) -> None:
    """Open a page to try a model: photographs or the camera, probabilities, and where the network looks.

    Serves it on this machine alone until Ctrl-C. Pictures stay in memory and are never stored.
    """
    from pipeline.demo import server

    server.serve(models, port, threads)


def block_option(default: str) -> Callable[[F], F]:
    """Return the option that names a block; `default`: what the command takes without it."""
    return click.option("--block", type=Name(), help=f"A block of study.yaml; by default {default}.")


WORKERS = click.option(
    "--workers", type=Number(1, CORES), default=CORES, help="Processes at a time, at most one per core."
)
CLUSTER = click.option(
    "--cluster", type=Address(), help="Run on the nodes of a Ray cluster instead: this machine's, or an address."
)
CPUS = click.option("--cpus-per-run", type=Number(1), default=1, help="With --cluster: cores, and threads, of a run.")
GPUS = click.option(
    "--gpus-per-run", type=Share(), default=0.0, help="With --cluster: GPUs of a run; several share one below 1."
)
OF_RUNS = ("cpus_per_run", "gpus_per_run")


def placement(workers: int, cluster: str | None, cpus: int, gpus: float) -> Placement:
    """Return where the user wants jobs done. Raises UserError for an option that is for another place."""
    from pipeline.study.executor import Placement

    if cluster is None:
        refuse("is for the nodes of a cluster: add --cluster, or use --workers.", *OF_RUNS)
    else:
        refuse("is for processes on this machine: leave it or --cluster out.", "workers")
    return Placement(workers, cluster, cpus, gpus)


def refuse(why: str, *names: str) -> None:
    """Raise UserError if the user has typed one of these options of the command that runs."""
    for name in filter(cli.is_given, names):
        raise UserError(f"--{name.replace('_', '-')} {why}")


@fer.command(epilog="Example: fer sweep --block B --seed 0 --seed 1")
@block_option("the grid of params.yaml")
@WORKERS
@CLUSTER
@CPUS
@GPUS
@click.option("--model", "models", type=Name(), multiple=True, help="Only this model or row; repeatable.")
@click.option("--seed", "seeds", type=Number(0), multiple=True, help="Only this seed; repeatable.")
@click.option("--figures", is_flag=True, help="Draw the figures of each run too, and keep those of seed 0.")
def sweep(
    block: str | None,
    workers: int,
    cluster: str | None,
    cpus_per_run: int,
    gpus_per_run: float,
    models: Sequence[str],
    seeds: Sequence[int],
    figures: bool,
) -> None:
    """Train, evaluate and keep the runs of a block or of the grid.

    Does what `dvc repro` does one by one, several at a time, without DVC and MLflow, in a folder of its own,
    .study/<block>/. Each finished run is kept in results/<data set>/[<block>/]runs/. A run that is already there with
    the same settings, data, words and decoders is not repeated, and an interrupted training resumes after its last
    epoch, so a study may be stopped at any time and continued. Changed code is not noticed: after a change to what a
    training computes, remove the runs. The log of each run is in .study/<block>/logs/. With --cluster other machines
    do the work, and everything is still kept here (docs/cluster.md).
    """
    from pipeline.study import sweep

    sweep.sweep(block, placement(workers, cluster, cpus_per_run, gpus_per_run), models, seeds, figures)


@fer.command(epilog="Example: fer search --block B")
@click.argument(
    "models", type=Name(), nargs=-1, help="Names under `models:`, or rows of the block; by default all that it needs."
)
@block_option("one model of each kind under `models:`")
@WORKERS
@CLUSTER
@CPUS
@GPUS
def search(
    models: Sequence[str], block: str | None, workers: int, cluster: str | None, cpus_per_run: int, gpus_per_run: float
) -> None:
    """Choose learning rates on PublicTest.

    Every trial is kept in results/<data set>/[<block>/]learning_rates.json, so an interrupted search can be continued.
    `fer sweep --block` reads the best rates there. Without a block one model is searched after the other in the
    workspace; two such searches may run side by side with different models. Write their rates into params.yaml by hand.
    """
    if block:
        from pipeline.study import sweep

        sweep.search(block, placement(workers, cluster, cpus_per_run, gpus_per_run), models)
        return
    refuse(
        "is for a block of study.yaml, whose rows are searched at once: add --block.", "workers", "cluster", *OF_RUNS
    )
    from pipeline.study import lr_search

    lr_search.search(models)


@fer.command(epilog="Example: fer report --html report.html", short_help="Write the tables and figures of a study.")
@block_option("the study in results/fer2013")
@click.option(
    "--html",
    is_flag=False,
    flag_value="report.html",
    type=cli.NewFile(".html"),
    help="Write the finished pipeline as one page into this file, report.html if none is named.",
)
@click.option("--text", is_flag=True, help="Print its differences from the baseline, drawn with characters.")
@click.option("--of", type=cli.FOLDER, help="With --html or --text: published runs; by default the outputs here.")
def report(block: str | None, html: Path | None, text: bool, of: Path | None) -> None:
    """Write the study from the runs in results/fer2013, the table of a block from its runs, or one HTML page.

    Needs neither the data nor a training. Logs the runs and the comparison of the study to MLflow as `fer2013-study`.
    With --html or --text it only writes the page or prints the plot. The page is self-contained: the answer, the table
    and the figures, without any face.
    """
    if html or text:
        from pipeline.study import html_report

        if block:
            raise click.UsageError("--html and --text show a folder, not a block: name it with --of.")
        html_report.report_finished(html, text, of)
    elif of:
        raise click.UsageError("--of says what to show: add --html or --text.")
    elif block:
        from pipeline.study.block_report import report_block

        report_block(block)
    else:
        from pipeline.study import report

        report.report()


@fer.command(epilog="Example: fer publish")
@click.argument("name", type=Name(), required=False, help="A subfolder for runs that are not part of the study.")
def publish(name: str | None) -> None:
    """Keep finished runs in results/<data set>, for git.

    Keeps all evaluated runs of the grid; runs of an earlier grid stay.
    """
    from pipeline.study import publish

    publish.publish(name)


@fer.command(epilog="Example: fer speedrun speedrun-fast")
@click.argument("experiments", type=Name(), nargs=-1, help="Names of DVC experiments; by default the workspace.")
def speedrun(experiments: Sequence[str]) -> None:
    """Record when the baseline first reached each accuracy.

    Writes results/<data set>/speedrun.json and a figure. `make speedrun` runs the experiments first.
    """
    from pipeline.study import speedrun

    speedrun.speedrun(experiments)


@fer.command(epilog="Example: fer backfill")
def backfill() -> None:
    """Restore missing MLflow runs from the outputs.

    Complete runs are left alone, so a second call changes nothing.
    """
    from pipeline.tracking import backfill

    backfill.backfill()


@fer.command(epilog="Example: fer clean")
def clean() -> None:
    """Remove what the pipeline wrote.

    Removes its outputs, its checkpoints and its measurement of the machine. Your own files stay, also in outputs/, and
    are listed. DVC's cache, MLflow's store and .venv stay as well.
    """
    from pipeline import config, workspace

    grid = config.load().grid
    for path in workspace.clean(f"{model}-{seed}" for model, seed in grid.pairs()):
        print(f"{path} stays: the pipeline did not write it, or wrote it for a model that is no longer configured")


def main() -> None:
    """Run the command that follows `fer`."""
    cli.run(fer)


if __name__ == "__main__":
    main()
