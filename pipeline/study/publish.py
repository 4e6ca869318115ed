"""Keep finished runs in git: `fer publish [NAME]` fills results/<data set>/[NAME/].

Every evaluated run of the grid is kept as `pipeline.comparison.records` describes, with the figures of seed 0 that show
no single person, and with params.yaml and dvc.lock, in which only the file names of paths to the data remain. A study
that takes days can be kept run by run: runs from an earlier grid stay, and `fer report` makes one table of all of them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import yaml

from pipeline import config
from pipeline.comparison.records import RunRecord, is_network, read_run
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json, replacing, write_text
from pipeline.fingerprint import RunSettings, evaluation_digest, settings_digest, training_inputs
from pipeline.labels.targets import TargetSpec
from pipeline.study.plan import BLOCK_NAME
from pipeline.study.provenance import Origin, provenance
from pipeline.workspace import RunKey, dataset_name

SHOWABLE = (
    "confusion.png",
    "confusion_normalised.png",
    "class_heat_maps.png",
    "per_class.png",
    "reliability.png",
    "class_maps.png",
    "uncertainty.png",
)
"""Figures of one model that are made of numbers or of means over many faces."""
TAKEN = ("runs", "figures")
"""Names that exist in every folder of kept runs."""
PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
"""What YAML may have before a value: its anchor, which aliases need, and its tag."""


def publish(name: str | None = None) -> None:
    """Keep every evaluated run of the grid. Raises UserError for one made with other settings."""
    if name is not None and (name in TAKEN or re.fullmatch(BLOCK_NAME, name)):
        raise UserError(f"'{name}' is a folder of the study itself: keep the runs under another name.")
    params = config.load()
    finished = [run_key for run_key in (RunKey(*pair) for pair in params.grid.pairs()) if run_key.metrics.exists()]
    if not finished:
        raise UserError("No model of the grid is evaluated yet: run `dvc repro` first.")
    stale = [run_key.name for run_key in finished if not as_configured(read_json(run_key.metrics), run_key, params)]
    if stale:
        raise UserError(
            f"{', '.join(stale)}: made with other settings than params.yaml has now: run `dvc repro` first."
        )
    folder = Path("results") / dataset_name() / (name or "")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: keep the runs under another name.")
    keep(folder, finished, Origin.here(shlex.join(["fer", "publish", *([name] if name else [])])))
    print(f"{len(finished)} of {len(params.grid.pairs())} runs kept in {folder}")


def as_configured(metrics: JsonDict, run_key: RunKey, params: config.Params) -> bool:
    """Return whether a run has the requested settings, data, words, votes and decoders."""
    model = params.model(run_key.model)
    targets = TargetSpec.parse(model.targets).load(run_key.seed)
    wanted = settings_digest(training_inputs(RunSettings.of(params, run_key), targets))
    return (
        metrics.get("settings_digest") == wanted
        and metrics.get("evaluation_digest") == evaluation_digest()
        and (metrics.get("decoder"), *metrics.get("decoders", ())) == model.decoders
    )


def is_kept(folder: Path, run_key: RunKey, params: config.Params) -> bool:
    """Return whether the folder has this run with the requested settings."""
    file = folder / "runs" / f"{run_key.name}.json"
    return file.exists() and as_configured(read_run(file), run_key, params)


def numerics_in(folder: Path, seeds: Container[int] = ()) -> JsonDict:
    """Return `machine` of a network that the folder has, of one of these seeds if it can be; empty without one."""
    runs = [read_run(file) for file in sorted((folder / "runs").glob("*.json"))]
    networks = [run for run in runs if is_network(run)]
    networks.sort(key=lambda run: run["seed"] in seeds)
    return dict(networks[-1]["machine"]) if networks else {}


def keep(folder: Path, finished: Sequence[RunKey], origin: Origin) -> None:
    """Write these runs into the folder, with their settings."""
    for run_key in finished:
        keep_run(folder, run_key, origin)
        keep_figures(folder, run_key)
    for file in ("params.yaml", "dvc.lock"):
        keep_settings(folder, Path(file))


def keep_run(folder: Path, run_key: RunKey, origin: Origin) -> None:
    """Write one run and what made it into the folder."""
    run = RunRecord.of_workspace(run_key)
    replace(run, metrics=run.metrics | {"provenance": provenance(origin)}).keep(folder / "runs", run_key.name)


def keep_figures(folder: Path, run_key: RunKey) -> None:
    """Copy the figures of a run that show no single person, if it is of seed 0: one picture of each model is enough."""
    if run_key.seed == 0:
        target = folder / "figures" / run_key.name
        for figure in SHOWABLE:
            with replacing(target / figure) as temporary:
                shutil.copyfile(run_key.figures / figure, temporary)


def has_figures(folder: Path, run_key: RunKey) -> bool:
    """Return whether `keep_figures` would add none."""
    target = folder / "figures" / run_key.name
    return run_key.seed != 0 or all((target / figure).exists() for figure in SHOWABLE)


def remove_figures(folder: Path, run_key: RunKey) -> None:
    """Remove the figures of a run that another one replaces."""
    for figure in SHOWABLE:
        (folder / "figures" / run_key.name / figure).unlink(missing_ok=True)


def keep_settings(folder: Path, file: Path) -> None:
    """Copy params.yaml or dvc.lock into the folder, without the folders of the user."""
    text = without_folders(file.read_text(encoding="utf-8"), config.load().paths().values())
    write_text(folder / file.name, text)


def without_folders(text: str, paths: Iterable[str]) -> str:
    """Reduce the paths in params.yaml or dvc.lock that leave the repository or name the data to their last part.

    Folders are private to their owner. Paths are found however YAML writes them, quoted or folded; comments stay.
    """
    private = {path for path in paths if path and not path.startswith("resources/")}
    found = {node.start_mark.index: node for node in _scalars(yaml.compose(text))}  # an alias is its anchor's node
    for start, node in sorted(found.items(), key=lambda item: -item[0]):
        if node.value in private:
            properties = PROPERTIES.match(text, start)
            assert properties  # perhaps empty
            name = _as_yaml(PurePath(node.value).name)
            text = text[: properties.end()] + name + text[node.end_mark.index :]
    return text


def _as_yaml(name: str) -> str:
    """Write the name of a file or folder as YAML, quoted if it could be read as anything but text."""
    plain = re.fullmatch(r"[^\W\d][\w.-]*", name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)


def _scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield every value below a YAML node; keys are left out."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _scalars(value)
