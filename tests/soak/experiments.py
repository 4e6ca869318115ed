"""Queued experiments side by side: `python -m tests.soak.experiments --cases 8 --jobs 4`.

Each of them must succeed, be in DVC with the result of its own parameters, and be in MLflow once.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

from tests.clone import Clone
from tests.soak.clones import make, wait, workplace

HOURS = 3600.0


def queue(clone: Clone, rates: list[float], jobs: int) -> None:
    """Put one experiment for each learning rate into the queue and start it."""
    listed = ",".join(map(str, rates))
    clone.dvc("exp", "run", "--queue", "-S", f"models.baseline.learning_rate={listed}")
    clone.dvc("queue", "start", "-j", str(jobs))


def finished(clone: Clone) -> Counter[str]:
    """How many experiments are in which state."""
    rows = clone.dvc("queue", "status").splitlines()
    return Counter(word for row in rows for word in row.split() if word in ("Success", "Failed", "Running", "Queued"))


def wrong_with(clone: Clone, rates: list[float]) -> list[str]:
    """What is not as it would be had the experiments run one after the other."""
    wrong = []
    runs = clone.runs()
    models = [run for run in runs.get("synthetic", []) if run.data.tags["kind"] == "model"]
    logged = Counter(float(run.data.params["model.learning_rate"]) for run in models)
    wrong += [f"{logged[rate]} runs of learning rate {rate}" for rate in rates if logged[rate] != 1]
    wrong += [f"{run.info.run_name} is {run.info.status}" for found in runs.values() for run in found
              if run.info.status != "FINISHED" or "fer.complete" not in run.data.tags]  # fmt: skip
    data = Counter(run.info.run_name for run in runs.get("data", []))
    wrong += [f"{count} runs of {name}" for name, count in data.items() if count != 1]
    if len({run.data.tags["dvc.exp_name"] for run in models} - {""}) != len(rates):
        wrong.append("names of experiments are missing in MLflow")
    shown = list(csv.DictReader(io.StringIO(clone.dvc("exp", "show", "--csv"))))
    column = next(name for name in shown[0] if name.endswith("models.baseline.learning_rate"))
    rows = Counter(float(row[column]) for row in shown if row.get("rev") not in ("workspace",) and row["Experiment"])
    wrong += [f"{rows[rate]} rows of learning rate {rate} in dvc exp show" for rate in rates if rows[rate] != 1]
    names = {float(row[column]): row["Experiment"] for row in shown if row["Experiment"]}
    for run in models:
        rate = float(run.data.params["model.learning_rate"])
        text = clone.run("git", "show", f"refs/exps/{_reference(clone, names.get(rate, ''))}:dvc.lock", expect=None)
        if f"learning_rate: {rate}" not in text.stdout:
            wrong.append(f"the experiment {names.get(rate)} in DVC is not that of learning rate {rate}")
    return wrong


def _reference(clone: Clone, name: str) -> str:
    listed = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    return next((ref.removeprefix("refs/exps/") for ref in listed if ref.endswith(f"/{name}")), "none")


@click.command(context_settings={"show_default": True})
@click.option("--cases", default=8)
@click.option("--jobs", default=4)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir(), "fer-soak-experiments"))
def main(cases: int, jobs: int, folder: Path) -> None:
    workplace(folder)
    rates = [round(0.01 * (number + 1), 2) for number in range(cases)]
    clone = make(folder / "fer")
    queue(clone, rates, jobs)
    wait(lambda: not {"Running", "Queued"} & finished(clone).keys(), HOURS, 5)
    states = finished(clone)
    wrong = [] if states["Success"] == cases else [f"in the queue: {dict(states)}"]
    wrong += wrong_with(clone, rates)
    lost = cases - states["Success"]
    print(f"experiments: {cases} queued, {jobs} at once, {lost} lost, {len(wrong)} things wrong")
    if wrong:
        print(json.dumps(wrong, indent=2))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
