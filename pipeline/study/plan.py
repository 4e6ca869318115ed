"""Read `study.yaml`, the blocks of the study, and make the settings of one block.

A block is a question with the rows that answer it. Its settings are those of params.yaml with the grid, the recipe and
the models of the block, so that the stages run it as they run the grid. With `labels`, every model of the block is
combined with each of them: `w2v_cosine` and `given.few10` make the row `w2v_cosine_few10`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, model_validator

from pipeline import config, schema
from pipeline.comparison.registry import METRICS, is_recall, recall
from pipeline.config import Distinct, Filled, ModelParams, Params, Seed
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_text
from pipeline.schema import listed, must_be, problem, require_one_of, wrong

PLAN = Path("study.yaml")


def _label(text: str) -> str:
    config.label_spec(text)
    return text


def _tested(metric: str) -> str:
    tested = [known.name for known in METRICS if known.tested]
    if metric not in tested and not is_recall(metric):
        raise wrong(f"one of {listed([*tested, recall('<class>')])}")
    return metric


Label = Annotated[str, AfterValidator(_label)]
Question = Annotated[str, Field(pattern=r"\S"), must_be("a sentence")]
BLOCK_NAME = r"[A-Z][0-9]*"
BlockName = Annotated[
    str, Field(pattern=f"^{BLOCK_NAME}$"), must_be("named with one capital letter, with or without digits behind it")
]
"""Names of folders below results/<data set>/, where others have names in small letters."""


@dataclass(frozen=True)
class Search:
    """Which learning rates of a block are searched, and with which budget.

    models: empty for all that are networks; the others use the rates of params.yaml. at: the labels at which rates are
    searched, each with the others that share its rate; empty: at each of the block's. trials, epochs, finalists: as
    under `search` in params.yaml, and from there if absent.
    """

    models: Annotated[tuple[str, ...], Distinct] = ()
    at: dict[Label, tuple[Label, ...]] = field(default_factory=dict)
    trials: int | None = None
    epochs: int | None = None
    finalists: int | None = None

    @property
    def budget(self) -> JsonDict:
        """The keys of params.yaml's `search` that the block sets."""
        chosen = {name: getattr(self, name) for name in ("trials", "epochs", "finalists")}
        return {name: value for name, value in chosen.items() if value is not None}

    def label_of(self, label: str) -> str:
        """Return the label at which the rate of this one is searched."""
        return next((at for at, sharing in self.at.items() if label in sharing), label)


@dataclass(frozen=True)
class Row:
    """One row of a block: a model of params.yaml, with the labels of the block if it has any."""

    model: str
    label: str = ""

    @property
    def name(self) -> str:
        """The model's name with that of the labels: `w2v_cosine_few10`."""
        return f"{self.model}_{short_name(self.label)}" if self.label else self.model


def short_name(label: str) -> str:
    """Return labels as they end the name of a row: `few10` for `given.few10`, `votes_drawn` for `votes.drawn`."""
    return label.removeprefix("given.").replace(".", "_")


@dataclass(frozen=True)
class Contrasts:
    """Comparisons that are planned and corrected together.

    pairs: models, each with those that it is compared with under the same labels. metric: a name in the metrics files,
    of those with a value for each image.
    """

    pairs: Annotated[dict[str, Annotated[tuple[str, ...], Filled, Distinct]], Filled]
    metric: Annotated[str, AfterValidator(_tested)] = "test.accuracy"


@dataclass(frozen=True)
class Block:
    """A question, and what is trained to answer it. models, baseline and recipe: names in params.yaml."""

    question: Question
    recipe: str
    seeds: Annotated[tuple[Seed, ...], Filled, Distinct]
    baseline: str
    models: Annotated[tuple[str, ...], Filled, Distinct]
    labels: Annotated[tuple[Label, ...], Distinct] = ()
    search: Search | None = None
    contrasts: dict[str, Contrasts] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """Every row, those of one kind of labels together."""
        return [Row(model, label) for label in self.labels or ("",) for model in self.models]

    def groups(self) -> dict[str, list[str]]:
        """Return the rows that are compared with each other, those of one kind of labels, by their baseline."""
        return {
            Row(self.baseline, label).name: [row.name for row in self.rows if row.label == label]
            for label in self.labels or ("",)
        }

    def pairs(self, family: str) -> list[tuple[str, str]]:
        """Return the rows that a family of contrasts compares, the second being that which is subtracted."""
        return [
            (Row(model, label).name, Row(other, label).name)
            for label in self.labels or ("",)
            for model, others in self.contrasts[family].pairs.items()
            for other in others
        ]

    @model_validator(mode="after")
    def _baseline_is_a_model(self) -> Block:
        require_one_of(self.baseline, self.models, "baseline")
        return self

    @model_validator(mode="after")
    def _contrasts_are_of_models(self) -> Block:
        for name, contrasts in self.contrasts.items():
            for model, others in contrasts.pairs.items():
                require_one_of(model, self.models, "contrasts", name, "pairs")
                for index, other in enumerate(others):
                    require_one_of(other, self.models, "contrasts", name, "pairs", model, index)
        return self

    @model_validator(mode="after")
    def _search_is_about_the_block(self) -> Block:
        if self.search is None:
            return self
        for index, model in enumerate(self.search.models):
            require_one_of(model, self.models, "search", "models", index)
        if not self.search.at:
            return self
        if not self.labels:
            raise problem("{key} is about labels, but the block has none: remove it", "search", "at")
        named = [label for at, sharing in self.search.at.items() for label in (at, *sharing)]
        if sorted(named) != sorted(self.labels):
            what = f"name each of the block's labels once ({listed(self.labels)}), not {listed(named)}"
            raise problem(f"{{key}} must {what}", "search", "at")
        return self


@dataclass(frozen=True)
class Plan:
    """The content of study.yaml."""

    blocks: Annotated[dict[BlockName, Block], Filled]

    def block(self, name: str) -> Block:
        """Return a block. Raises UserError if there is none with that name."""
        if name not in self.blocks:
            raise UserError(f"Unknown block '{name}' in {PLAN}. Valid: {listed(self.blocks)}.")
        return self.blocks[name]


def load(path: Path = PLAN) -> Plan:
    """Read and check `study.yaml`. Raises UserError naming the key that is wrong."""
    if not path.exists():
        raise UserError(f"{path} does not exist: run `fer` from the repository's root.")
    return schema.parse(Plan, read_text(path), str(path))


def settings(name: str) -> JsonDict:
    """Return what a params.yaml of the block holds, with the learning rates of params.yaml.

    Raises UserError if a name in the block is in neither file, or if its rows and the data do not fit together.
    """
    block, where = load().block(name), f"{PLAN}: 'blocks.{name}"
    raw = params_yaml()
    for index, model in enumerate(block.models):
        _require(model, raw["models"], f"{where}.models[{index}]'")
        own = raw["models"][model].get("labels")
        if block.labels and own:
            raise UserError(
                f"{where}.models[{index}]' is {model}, whose labels in params.yaml are {own}: the block's cannot be "
                "added."
            )
    _require(block.recipe, raw["recipes"], f"{where}.recipe'")
    rows = {row.name: raw["models"][row.model] | ({"labels": row.label} if row.label else {}) for row in block.rows}
    found = raw | {
        "grid": {"models": list(rows), "seeds": list(block.seeds)},
        "models": rows,
        "recipe": block.recipe,
        "recipes": {block.recipe: raw["recipes"][block.recipe]},
        "search": raw["search"] | (block.search.budget if block.search else {}),
        "compare": raw["compare"] | {"baseline": next(iter(block.groups()))},
    }
    if not _use_landmarks(rows.values()):
        found["landmarks"] = raw["landmarks"] | {"source": "none"}  # to find them takes long
    parse(found, name)
    return found


def params_yaml() -> JsonDict:
    """Return the content of params.yaml, which is checked."""
    config.load()
    return dict(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")))


def parse(found: JsonDict, name: str) -> Params:
    """Check the settings of a block as those in params.yaml are."""
    return config.parse(yaml.safe_dump(found, allow_unicode=True), f"block {name} of {PLAN}")


def _require(name: str, among: Mapping[str, Any], key: str) -> None:
    if name not in among:
        raise UserError(f"{key} is '{name}', but must be one of {listed(among)}.")


def _use_landmarks(rows: Iterable[JsonDict]) -> bool:
    made = [ModelParams(**row) for row in rows]
    return any(row.uses_landmarks or row.uses_neighbours for row in made)
