"""Do the work of a block of study.yaml, or of the grid, several runs at a time: `fer sweep`, `fer search --block`.

For a study that takes hours: what is done is kept at once and not done again. Runs are ordered by seed, so that there
is soon a table of all rows. On a processor each run has one thread, because two small networks on one core each finish
sooner than one after the other on both. How to compute is measured once, before the runs make the machine busy.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import cli
from pipeline.comparison.records import is_network, read_run
from pipeline.config import Params
from pipeline.errors import UserError
from pipeline.files import JsonDict, repository
from pipeline.study import block_folder, lr_search, numerics, plan, publish
from pipeline.study.block_folder import GRID, STUDY
from pipeline.study.executor import Executor, Placement
from pipeline.study.jobs import LOGS, Job, RunJob, SearchJob
from pipeline.study.plan import Block
from pipeline.study.pool import Outcome
from pipeline.study.provenance import Origin
from pipeline.workspace import RunKey, dataset_name


def sweep(
    block: str | None,
    placement: Placement,
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    figures: bool = False,
) -> None:
    """Publish the missing runs of a block, or of the grid of params.yaml if `block` is None.

    models: rows by their names or those of their models; seeds: some of its seeds; none: all.
    """
    planned = plan.load().block(block) if block else None
    settings = plan.settings(block) if block else plan.params_yaml()
    names, every = rows_named(models, planned, settings), settings["grid"]["seeds"]
    cli.known([*map(str, seeds)], [*map(str, every)], "seed of the block" if block else "entry of grid.seeds")
    origin = Origin.here(command("sweep", block, placement, models, seeds, figures))
    with placement.executor() as executor, block_folder.entered(block or GRID):
        wanted = [RunKey(model, seed) for seed in dict.fromkeys(seeds or every) for model in names]
        former = block_folder.former_machine()
        target, params = prepared(settings, block)
        if block and planned:
            use_searched_rates(settings, block, planned, names, target, params)
            params = block_folder.write_settings(settings)
        block_folder.write_targets()
        missing = [run_key for run_key in wanted if not is_done(target, run_key, params, figures)]
        kept = publish.numerics_in(target, {run_key.seed for run_key in missing})
        params, ours = with_machine(settings, params, executor, kept or former)
        machines: dict[int, JsonDict] = {}
        if missing:
            rows = rows_named((), planned, settings)  # with those that are not wanted now
            machines = machines_of_seeds(target, rows, missing, ours, params, executor)
            publish.keep_settings(target, Path("params.yaml"))
        count = f"{len(wanted) - len(missing)} of {len(wanted)} runs"
        print(f"{count} are kept in {target.relative_to(repository())}; {executor.place}", flush=True)
        jobs = [
            RunJob(
                run_key.name, str(target), run_key.model, run_key.seed, figures, origin,
                environment=expected(run_key.model, machines.get(run_key.seed, ours), params),
            )
            for run_key in missing
        ]  # fmt: skip
        carry_out(jobs, executor, kept_run, block or GRID)


def search(block: str, placement: Placement, models: Sequence[str] = ()) -> None:
    """Search the learning rates that a block wants searched, each row's trials one after another in one process."""
    planned, settings = plan.load().block(block), plan.settings(block)
    names = rows_named(models, planned, settings)
    with placement.executor() as executor, block_folder.entered(block):
        former = block_folder.former_machine()
        target, params = prepared(settings, block)
        params, ours = with_machine(settings, params, executor, publish.numerics_in(target) or former)
        file = target / "learning_rates.json"
        sources = lr_search.sources(planned, params)
        wanted = list(dict.fromkeys(sources[name] for name in names if name in sources))
        missing = [name for name in wanted if lr_search.next_trial(file, name, params) is not None]
        finished = f"{len(wanted) - len(missing)} of {len(wanted)} searches are finished"
        print(f"{finished} in {target.relative_to(repository())}; {executor.place}", flush=True)
        jobs = [
            SearchJob(
                f"search-{model}", str(target), model, params.search.seed,
                environment=expected(model, ours, params),
            )
            for model in missing
        ]  # fmt: skip
        try:
            carry_out(jobs, executor, found_rate, block)
        finally:
            print(lr_search.write_table(file, params))


def rows_named(models: Sequence[str], block: Block | None, settings: JsonDict) -> list[str]:
    """Return the rows that these names stand for, all without one. Raises UserError for a name that is none."""
    if block is None:
        cli.known(models, settings["grid"]["models"], "entry of grid.models")
        return list(dict.fromkeys(models or settings["grid"]["models"]))
    cli.known(models, dict.fromkeys([*block.models, *(row.name for row in block.rows)]), "row of the block")
    return [row.name for row in block.rows if not models or row.model in models or row.name in models]


def is_done(target: Path, run_key: RunKey, params: Params, figures: bool) -> bool:
    """Return whether a run is kept as it is wanted, with its figures if it is to have some."""
    return publish.is_kept(target, run_key, params) and (not figures or publish.has_figures(target, run_key))


def prepared(settings: JsonDict, block: str | None) -> tuple[Path, Params]:
    """Prepare the data in this folder; return the folder for results and the settings."""
    params = block_folder.write_settings(settings)
    block_folder.bring_data(settings)
    return repository() / "results" / dataset_name() / (block or ""), params


def with_machine(settings: JsonDict, params: Params, executor: Executor, former: JsonDict) -> tuple[Params, JsonDict]:
    """Write `settings` with the choice how to compute: all runs then round alike, however busy the machine gets.

    Return them with how the machine that was measured computes, by which the executor may choose others. former: that
    of kept runs, of the seeds that lack some of those wanted if there are any.
    """
    settings["machine"], environment = machine(params, executor, former)
    return block_folder.write_settings(settings), environment


def machine(params: Params, executor: Executor, former: JsonDict) -> tuple[JsonDict, JsonDict]:
    """Return the section `machine` of params.yaml with a choice in the place of `auto`: the former one, or measured;
    and the environment of a training on the machine that was measured.

    former: how kept runs were computed, or the folder's runs are to be; empty at first. A machine that is busy now
    might be measured otherwise, and on a cluster the one that answers may not be able to compute as others do.
    """
    known = {
        name: former[name] for name in numerics.NAMES if name in former and getattr(params.machine, name) == "auto"
    }
    if known.get("threads", 0) > executor.threads:
        del known["threads"]  # which the comparison with kept runs will report
    measured = executor.measure(replace(params.machine, **known))
    chosen = measured["chosen"] | (known if executor.chooses_machines else {})
    return chosen, {**measured["environment"], "instructions": measured["instructions"]}


def use_searched_rates(
    settings: JsonDict, name: str, block: Block, rows: Sequence[str], target: Path, params: Params
) -> None:
    """Put the searched rates into the settings. Raises UserError if that of one of these rows is not searched."""
    found = lr_search.rates(target / "learning_rates.json", block, params)
    for row in rows:
        if row in lr_search.sources(block, params) and row not in found:
            raise UserError(f"The learning rate of {row} is not searched yet: run `fer search --block {name}` first.")
    for row, rate in found.items():
        settings["models"][row]["learning_rate"] = rate


def machines_of_seeds(
    target: Path, rows: Sequence[str], missing: Sequence[RunKey], ours: JsonDict, params: Params, executor: Executor
) -> dict[int, JsonDict]:
    """Return the machine of the kept networks of each seed, where the missing ones must be trained too.

    Raises UserError if the executor would train them otherwise: the report, which compares rows within a seed, rejects
    both.
    """
    found: dict[int, JsonDict] = {}
    machine = {name: value for name, value in ours.items() if name != "instructions"}  # which no run keeps
    seeds = {run_key.seed for run_key in missing if not params.model(run_key.model).classifier}
    kept = {RunKey(row, seed) for row in rows for seed in seeds} - {*missing}
    for run_key in sorted(kept, key=lambda run_key: run_key.name):
        file = target / "runs" / f"{run_key.name}.json"
        if not file.exists() or not is_network(run := read_run(file)):
            continue
        differing = [name for name in run["machine"] | machine if run["machine"].get(name) != machine.get(name)]
        if not differing:
            continue
        # The node that was measured may be of another kind; others may compute as the settings say and the run was.
        stated = [name for name in numerics.NAMES if name in run["machine"]]
        as_set = all(run["machine"][name] == getattr(params.machine, name) for name in stated)
        if executor.chooses_machines and as_set and {*differing} <= {"processor", "precision", "compile"}:
            found[run_key.seed] = run["machine"]
            continue
        raise UserError(
            f"{run_key.name} was trained with other numerics ({', '.join(differing)}) than runs of its seed would be "
            "now: continue with as many `--workers` (or `--cpus-per-run`) on a machine of the same kind, set `machine` "
            f"in params.yaml as in its file, leave seed {run_key.seed} out with `--seed`, or remove its runs from "
            f"{target.relative_to(repository())}."
        )
    return found


def expected(model: str, environment: JsonDict, params: Params) -> JsonDict:
    """Return the environment that a network is to be trained in; a row without a network has none."""
    return {} if params.model(model).classifier else environment


def carry_out(jobs: Sequence[Job], executor: Executor, described: Callable[[Outcome], str], folder: str) -> None:
    """Do the jobs and print a line for each as it ends. Raises UserError at the end if some have failed."""
    seconds, failed = 0.0, []
    with contextlib.closing(executor.outcomes(jobs)) as outcomes:
        for done, outcome in enumerate(outcomes, 1):
            name, seconds = outcome.job.name, seconds + outcome.seconds
            if outcome.error is None:
                line = f"{name}: {described(outcome)} after {outcome.seconds / 60:.1f} minutes"
            else:
                failed.append(name)
                line = f"{name}: failed: {outcome.error} See {STUDY / folder / outcome.job.log}."
            end = expected_end(seconds / done * (len(jobs) - done) / max(1, outcome.running))
            count = f"{outcome.running} running, {len(failed)} failed"
            print(f"{line}; {done} of {len(jobs)}, {count}{end}", flush=True)
    if failed:
        count = "1 job" if len(failed) == 1 else f"{len(failed)} jobs"
        raise UserError(f"{count} failed ({', '.join(failed)}): see {STUDY / folder / LOGS}/.")


def expected_end(seconds: float) -> str:
    """Return when what is left will be done, or nothing if that is now."""
    return time.strftime(", all by about %a %H:%M", time.localtime(time.time() + seconds)) if seconds else ""


def kept_run(outcome: Outcome) -> str:
    """Describe a published run by its accuracy on PublicTest: that on PrivateTest is for the report."""
    assert outcome.found
    return f"kept, {100 * outcome.found['val_accuracy']:.1f} % on PublicTest,"


def found_rate(outcome: Outcome) -> str:
    """Describe a finished search."""
    assert outcome.found
    found = outcome.found
    accuracy = f"{100 * found['val_accuracy']:.1f} % on PublicTest"
    return f"learning rate {found['rate']:g}, {accuracy}, {found['trials']} trials,"


def command(
    name: str, block: str | None, placement: Placement, models: Sequence[str], seeds: Sequence[int], figures: bool
) -> str:
    """Return the command as a user types it."""
    words = ["fer", name, *(["--block", block] if block else []), *placement.options]
    words += [word for model in models for word in ("--model", model)]
    words += [word for seed in seeds for word in ("--seed", str(seed))]
    return shlex.join([*words, *(["--figures"] if figures else [])])
