"""Bring MLflow up to date with DVC's outputs: `fer backfill`.

A stage that DVC skips or restores from its cache logs nothing, and a database can be lost. Every missing run is rebuilt
from the outputs; complete runs are left alone, so a second call changes nothing. The registry's champion follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline import config
from pipeline.errors import UserError
from pipeline.tracking import champion, client, comparison_runs, data_runs, model_runs
from pipeline.tracking.store import DATA_EXPERIMENT
from pipeline.workspace import RunKey


def backfill() -> None:
    """Log every run that is missing. Raises UserError if MLflow did not accept one."""
    if not client.is_on():
        raise UserError("FER_TRACKING is off: unset it to bring MLflow up to date.")
    params = config.load()
    parts: list[tuple[client.Where | None, Callable[[], object]]] = [
        (data_runs.fetch_run(), data_runs.log_fetch),
        (data_runs.prepare_run(), data_runs.log_prepare),
        (data_runs.embed_run(), data_runs.log_embed),
        (comparison_runs.compare_run(), comparison_runs.log_compare),
    ]
    for run_key in (RunKey(*pair) for pair in params.grid.pairs()):
        log = partial(model_runs.log_model_run, run_key, "backfill")
        parts.append((model_runs.model_run(run_key), log))

    ready = [(where, log) for where, log in parts if where is not None]
    restored = restore(ready)
    complete, without = len(ready) - restored, len(parts) - len(ready)
    print(f"{restored} runs restored, {complete} were complete, {without} have no outputs yet")
    for experiment in dict.fromkeys(where.experiment for where, _ in ready if where.experiment != DATA_EXPERIMENT):
        print(f"in MLflow: {client.page(experiment)}")
    if comparison_runs.compare_run() is not None and (said := champion.promote()):
        print(said)


def restore(parts: Sequence[tuple[client.Where, Callable[[], object]]]) -> int:
    """Log the runs that are missing and return how many were. Raises UserError if MLflow did not accept one.

    parts: each run, and what logs it.
    """
    missing = [(where, log) for where, log in parts if not client.is_complete(where)]
    for where, log in missing:
        print(f"restoring {where.name} in {where.experiment}")
        log()
    lost = [where.name for where, _ in missing if not client.is_complete(where)]
    if lost:
        raise UserError(f"MLflow did not take {', '.join(lost)}: see the warnings above, then run this again.")
    return len(missing)
