"""Wrap everything that touches MLflow; no other module does.

DVC's outputs are the truth; MLflow shows them. Nothing here may stop a stage: the first failure is one warning, and
from then on the run is silent. `FER_TRACKING=off` switches logging off from the start. The store is `mlflow.db` and
`mlartifacts/` in the repository's root, or whatever `MLFLOW_TRACKING_URI` names: see `pipeline.tracking.store`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from pipeline.data.classes import tracking_key
from pipeline.errors import UserError
from pipeline.files import JsonDict, flatten, repository
from pipeline.tracking import git, store
from pipeline.tracking.model_format import MODEL_FORMAT, save_model
from pipeline.tracking.once import create_once

if TYPE_CHECKING:  # MLflow takes seconds to import
    import numpy as np
    import numpy.typing as npt
    from mlflow.entities import Metric, Param, Run
    from mlflow.models import Model
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

P = ParamSpec("P")
T = TypeVar("T")

KEY = "fer.key"
"""The tag that identifies a run: model, seed and a digest of everything that training read."""

COMPLETE = "fer.complete"
"""The tag of a fully logged run: a digest of what was logged."""

FORMAT = "fer.format"
"""The tag of a logged model: `MODEL_FORMAT`."""


BACKFILL = "fer backfill"


class Where(NamedTuple):
    """The MLflow run of a finished set of outputs.

    content: changes with what there is to log. command: logs the run again.
    """

    experiment: str
    name: str
    key: str
    content: str
    command: str = BACKFILL


def _safe(method: Callable[Concatenate[MlflowRun, P], T]) -> Callable[Concatenate[MlflowRun, P], T | None]:
    """Call a method while MLflow works; on its first failure, warn once and stop logging. Without it, return None."""

    @functools.wraps(method)
    def call(self: MlflowRun, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self.run_id is None or not self.working:
            return None
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # whatever MLflow raises: the stage's outputs come first
            self.fail(error)
            return None

    return call


class MlflowRun:
    """One MLflow run; if MLflow is off or has failed, the same methods do nothing."""

    def __init__(self, run_id: str | None, command: str = BACKFILL) -> None:
        self.run_id, self.command = run_id, command
        self.working = run_id is not None

    @property
    def id(self) -> str:
        """The run's id, where there is one: methods that are `_safe` are not called without."""
        assert self.run_id is not None
        return self.run_id

    def fail(self, error: Exception) -> None:
        """Warn once and stop logging."""
        self.working = False
        warn(error, self.command)

    @_safe
    def params(self, params: JsonDict) -> None:
        """Log nested parameters under dotted names; existing ones stay, because MLflow rejects changes.

        They can differ only in ways that do not matter to the run, such as the path of an identical archive.
        """
        logged = store.client().get_run(self.id).data.params
        flat = {tracking_key(name): value for name, value in flatten(params).items()}
        fresh = {name: value for name, value in flat.items() if name not in logged}
        store.client().log_batch(self.id, params=_params(fresh))

    @_safe
    def metrics(self, metrics: JsonDict, step: int = 0) -> None:
        """Log nested numbers under dotted names; None is left out."""
        store.client().log_batch(self.id, metrics=_metrics(metrics, step))

    @_safe
    def curve(self, rows: Sequence[Mapping[str, float]], step: str) -> None:
        """Log one row per step, skipping steps already logged (in a resumed or restored run)."""
        some = next(name for name in rows[0] if name != step)
        logged = {metric.step for metric in store.client().get_metric_history(self.id, some)}
        fresh = [_metrics(row, int(row[step])) for row in rows if row[step] not in logged]
        for batch in _batches(fresh):
            store.client().log_batch(self.id, metrics=batch)

    @_safe
    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, at most 100, in one request: unlike `set_tag` it succeeds if another process sets one as well."""
        from mlflow.entities import RunTag

        store.client().log_batch(self.id, tags=[RunTag(name, value) for name, value in tags.items()])

    @_safe
    def artifacts(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all its contents."""
        store.prepare_artifacts(self.id)
        log = store.client().log_artifacts if path.is_dir() else store.client().log_artifact
        log(self.id, str(path), folder)

    @_safe
    def dataset(self, name: str, digest: str, profile: JsonDict, source: JsonDict) -> None:
        """Record the data set of the run under a digest of at most 36 characters."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(
            name=name, digest=digest, source_type="dvc", source=json.dumps(source), profile=json.dumps(profile)
        )
        store.client().log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    @_safe
    def needs_model(self) -> bool:
        """Return whether the run lacks its model, which takes seconds to export; None if MLflow does not work."""
        return not _has_model(self.id)

    @_safe
    def model(self, onnx_file: Path, faces: npt.NDArray[np.uint8], classes: Sequence[str]) -> None:
        """Log an exported model (`model_format`), unless the run has it. faces: the input example, uint8 [N, 48, 48].

        classes: the meaning of its probabilities, which MLflow shows with the model and loads as its `metadata`.
        """
        import mlflow
        from mlflow.models import Model

        if _has_model(self.id):
            return
        store.prepare_artifacts(self.id)
        with mlflow.start_run(run_id=self.id):
            Model.log(
                artifact_path=None,
                name="model",
                flavor=SimpleNamespace(__name__="mlflow.onnx", save_model=_save_model),
                onnx_file=onnx_file,
                faces=faces,
                metadata={"classes": list(classes)},
                tags={FORMAT: MODEL_FORMAT},
                validate_serving_input=False,  # it would load the model once more; a test does
            )


def _save_model(path: str, mlflow_model: Model, onnx_file: Path, faces: npt.NDArray[np.uint8], **_: Any) -> None:
    save_model(path, mlflow_model, onnx_file, faces)


def _has_model(run_id: str) -> bool:
    """Return whether a run has its model whole and in today's format.

    One that is not whole may be another process's, at work on it.
    """
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    outputs = store.client().get_run(run_id).outputs
    for output in outputs.model_outputs if outputs is not None else ():
        with suppress(MlflowException):  # deleted
            model = store.client().get_logged_model(output.model_id)
            if model.status == LoggedModelStatus.READY and model.tags.get(FORMAT) == MODEL_FORMAT:
                return True
    return False


@contextmanager
def run(
    experiment: str,
    name: str,
    key: str,
    tags: Mapping[str, str],
    *,
    only_unfinished: bool = False,
    command: str = BACKFILL,
) -> Iterator[MlflowRun]:
    """Continue the newest run with this key, or open one, and close it at the end.

    only_unfinished: continue a run only if it is not fully logged, as training does. Such a run was killed, failed (on
    a full disk, say), or was trained by a stage that outlived its DVC and never evaluated. A second training of an
    evaluated run is a new run. A run that ends in an exception is marked as failed. command: logs the run later if
    MLflow fails.
    """
    current = _open(experiment, name, key, tags, only_unfinished, command)
    try:
        yield current
    except KeyboardInterrupt:
        _close(current, "KILLED")
        raise
    except BaseException:
        _close(current, "FAILED")
        raise
    _close(current, "FINISHED")


@contextmanager
def run_of(where: Where | None, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
    """Open the run of a stage whose outputs are all written; mark it complete at the end."""
    if where is None:
        raise ValueError("there are no outputs to log")
    with run(where.experiment, where.name, where.key, tags, command=where.command) as current:
        yield current
        current.tags({COMPLETE: where.content})


@contextmanager
def system_metrics(run: MlflowRun, seconds: float = 2.0) -> Iterator[None]:
    """Sample processor, memory, disk and network into the run during the block."""
    monitor = _start_monitor(run, seconds)
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()


def is_complete(where: Where) -> bool:
    """Return whether the newest run with this key is fully logged. Raises UserError if MLflow cannot be queried."""
    try:
        found = _search(where.experiment, where.key)
    except Exception as error:  # whatever MLflow raises: no database, no server, no permission
        raise UserError(f"MLflow cannot be read: {store.explain(error)}") from error
    return bool(found) and found[0].data.tags.get(COMPLETE) == where.content


class Logged(NamedTuple):
    """A model in MLflow, and its run."""

    model_id: str
    run_id: str


def logged_model(where: Where) -> Logged | None:
    """Return the model that was logged last in the newest run with this key, if that is fully logged.

    Raises what MLflow raises.
    """
    found = _search(where.experiment, where.key)
    if not found or found[0].data.tags.get(COMPLETE) != where.content:
        return None
    run_id = found[0].info.run_id
    outputs = store.client().get_run(run_id).outputs  # a search leaves them out
    models = [store.client().get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else ())]
    newest = max(models, key=lambda model: model.creation_timestamp, default=None)
    return None if newest is None else Logged(newest.model_id, run_id)


def page(experiment: str) -> str:
    """Return the address of the experiment for a browser. Raises UserError if MLflow cannot be queried."""
    try:
        return store.page(experiment)
    except Exception as error:  # as in is_complete
        raise UserError(f"MLflow cannot be read: {store.explain(error)}") from error


def is_on() -> bool:
    """Return whether logging is on (`FER_TRACKING`)."""
    return os.environ.get("FER_TRACKING", "on").lower() not in ("off", "0", "false")


def context_tags(stage: str) -> dict[str, str]:
    """Return tags on the origin of a run (commit, changes, DVC experiment, stage), or none without logging."""
    if not is_on():
        return {}  # to ask git takes longer than a short training
    return {
        "dvc.stage": stage,
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        **git.state(),
    }


def warn(error: Exception, command: str = BACKFILL) -> None:
    """Print the one line that a user sees when MLflow cannot be used. command: logs the run later."""
    if repository() != Path.cwd():  # in the folder of an experiment, whose outputs are not in the workspace
        command = f"dvc exp apply {os.environ.get('DVC_EXP_NAME') or 'EXPERIMENT'} && {command}"
    print(
        f"warning: MLflow is not logging this run: {store.explain(error)} The stage's outputs are not "
        f"affected: once the pipeline has finished and this is fixed, `{command}` restores the run from them.",
        file=sys.stderr,
    )


def _open(
    experiment: str, name: str, key: str, tags: Mapping[str, str], only_unfinished: bool, command: str
) -> MlflowRun:
    if not is_on():
        return MlflowRun(None)

    def find() -> list[str]:
        return [
            found.info.run_id
            for found in _search(experiment, key)
            if store.takes(found.info.artifact_uri) and not (only_unfinished and COMPLETE in found.data.tags)
        ]

    def create() -> str:
        labels = {KEY: key, "mlflow.source.name": f"python -m stages.{tags.get('dvc.stage', '')}", **tags}
        made = store.client().create_run(store.experiment_id(experiment), run_name=name, tags=labels)
        return str(made.info.run_id)

    try:
        run_id = create_once(find, create, _withdraw)
        store.client().update_run(run_id, status="RUNNING")
        return MlflowRun(run_id, command)
    except Exception as error:  # as in _safe
        warn(error, command)
        return MlflowRun(None)


def _withdraw(run_id: str) -> None:
    """Take back a run of our own that another process has opened too; who may not delete it hides it."""
    from mlflow.exceptions import MlflowException

    store.client().delete_tag(run_id, KEY)
    store.client().set_tag(run_id, "kind", "withdrawn")
    store.client().set_terminated(run_id, "KILLED")
    with suppress(MlflowException):
        store.client().delete_run(run_id)


def _close(current: MlflowRun, status: str) -> None:
    if current.run_id is None:
        return
    try:
        store.client().set_terminated(current.run_id, status if current.working else "FAILED")
    except Exception as error:  # as in _safe
        if current.working:
            warn(error, current.command)


def _start_monitor(run: MlflowRun, seconds: float) -> SystemMetricsMonitor | None:
    if run.run_id is None:
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run.run_id,
            sampling_interval=seconds,
            samples_before_logging=1,
            resume_logging=True,
            tracking_uri=store.store().uri,
        )
        monitor.start()
    except Exception as error:  # as in _safe
        warn(error, run.command)
        return None
    return monitor


def _search(experiment: str, key: str) -> list[Run]:
    """Return the runs with this key, newest first."""
    return list(
        store.client().search_runs(
            [store.experiment_id(experiment)],
            filter_string=f"tags.`{KEY}` = '{key}'",
            order_by=["attributes.start_time DESC"],
        )
    )


def _params(flat: JsonDict) -> list[Param]:
    from mlflow.entities import Param

    return [Param(name, str(value)[:6000]) for name, value in flat.items()]


def _batches(rows: Sequence[list[Metric]], most: int = 1000) -> Iterator[list[Metric]]:
    """Join rows to requests of at most so many metrics, MLflow's limit; a row is logged whole or not at all."""
    batch: list[Metric] = []
    for row in rows:
        if batch and len(batch) + len(row) > most:
            yield batch
            batch = []
        batch = batch + row
    if batch:
        yield batch


def _metrics(values: Mapping[str, object], step: int) -> list[Metric]:
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(tracking_key(name), float(value), now, step)
        for name, value in flatten(values).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
