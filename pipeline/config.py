"""`params.yaml` as frozen dataclasses: strict, so that a typing error never becomes a silent default.

The settings of each part are defined beside the code they steer (`Augment`, `Recipe`, ...); this module
puts them together and checks them. Every problem is one sentence that names the key.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from pipeline.data.fer import EXPECTATIONS, LABELS
from pipeline.data.synthetic.dataset import Synthetic
from pipeline.errors import UserError, about
from pipeline.evaluation.decoders import DECODERS
from pipeline.labels import targets as label_targets
from pipeline.training.autotune import MEMORY_FORMATS, PRECISIONS, MachineParams
from pipeline.training.loop import Recipe
from pipeline.training.losses import LOSSES, EmbeddingLoss
from pipeline.workspace import resolve

T = TypeVar("T")

SOURCES = ("synthetic", "archive", "kaggle")


@dataclass(frozen=True)
class DataParams:
    source: str
    path: str
    votes: str
    sha256: str
    expect: str
    synthetic: Synthetic


@dataclass(frozen=True)
class WordSet:
    """Which words stand for the labels, and the word2vec file that has their vectors."""

    vectors: str
    words: dict[str, str | list[str]]


@dataclass(frozen=True)
class Grid:
    models: tuple[str, ...]
    seeds: tuple[int, ...]

    def pairs(self) -> list[tuple[str, int]]:
        return [(model, seed) for model in self.models for seed in self.seeds]


@dataclass(frozen=True)
class ModelParams:
    """One row of the study: loss, targets and decoders, chosen independently, and the loss's learning rate.

    The first decoder is the model's own; each further one is a row of the table without another training.
    """

    loss: str
    options: dict[str, Any]
    targets: str
    decoders: tuple[str, ...]
    learning_rate: float


@dataclass(frozen=True)
class SearchParams:
    """The budget that every model has in the search for its learning rate."""

    start: float
    factor: float
    trials: int
    epochs: int
    finalists: int
    seed: int


@dataclass(frozen=True)
class EvaluateParams:
    heat_maps: int
    class_mean_faces: int


@dataclass(frozen=True)
class CompareParams:
    baseline: str
    resamples: int


@dataclass(frozen=True)
class Params:
    data: DataParams
    labels: dict[str, WordSet]
    grid: Grid
    models: dict[str, ModelParams]
    recipe: str
    recipes: dict[str, Recipe]
    machine: MachineParams
    search: SearchParams
    evaluate: EvaluateParams
    compare: CompareParams

    def model(self, name: str) -> ModelParams:
        """The entry of one model. Raises UserError if there is none."""
        if name not in self.models:
            raise UserError(
                f"There is no model '{name}' under `models:` in params.yaml; there are {_names(self.models)}."
            )
        return self.models[name]

    def paths(self) -> dict[str, str]:
        """Every setting that names a file of the user, by its key."""
        vectors = {f"labels.{name}.vectors": words.vectors for name, words in self.labels.items()}
        return {"data.path": self.data.path, "data.votes": self.data.votes, **vectors}

    @property
    def chosen_recipe(self) -> Recipe:
        return self.recipes[self.recipe]


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check `params.yaml`. Raises UserError naming the key that is wrong."""
    if not path.exists():
        raise UserError(f"{path} does not exist: run stages from the repository's root.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: {error}.") from None
    return parse(text, str(path))


def parse(text: str, where: str = "params.yaml") -> Params:
    """The same from the file's text. Errors begin with `where` it comes from."""
    try:
        params = build(Params, yaml.load(text, _Strict), "")
        _check(params)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply: write it as in the repository.") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return params


MOST_VALUES = 100_000
"""What a params.yaml may hold with all its aliases written out; ours has some hundreds."""
MOST_DIGITS = 300
"""Digits of a number: more than any float has, and few enough to be shown."""


class _Strict(yaml.SafeLoader):
    """YAML for settings: a key once, plain keys, nothing that grows when its aliases are written out.

    YAML itself keeps the last of two equal keys in silence, and a few lines of aliases can stand for more values
    than memory holds.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a word, not a list or a mapping", key_node.start_mark
                )
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise UserError(f"line {line}: the key '{key_node.value}' is there twice: keep one.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, "a number of too many digits", node.start_mark
            )
        try:
            return super().construct_object(node, deep)
        # What its constructors let through for a date, a number or a tag that is none.
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{str(node.value)[:40]!r} is no {kind} ({error})", node.start_mark
            ) from None


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for with its aliases written out. Raises a YAMLError for too many."""
    key = id(node)
    if key in known:
        count = known[key]
        if count is None:
            raise yaml.composer.ComposerError(
                None, None, "an alias within what it stands for", node.start_mark
            )
        return count
    known[key] = None
    below: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    count = 1 + sum(_count(part, known) for part in below)
    if count > MOST_VALUES:
        raise yaml.composer.ComposerError(
            None, None, f"aliases that stand for more than {MOST_VALUES:,} values", node.start_mark
        )
    known[key] = count
    return count


def build(kind: Any, value: Any, key: str) -> Any:
    """Turn plain YAML into `kind`, recursively: dataclasses, tuples, lists, dicts, unions and scalars.

    Whole numbers pass as floats, nothing else is converted. Raises UserError naming `key`, not the file.
    """
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(typing.cast(type[Any], kind), value, key)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(kind):
            try:
                return build(option, value, key)
            except UserError:
                continue
        raise _wrong_type(kind, value, key)
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise _wrong_type(kind, value, key)
        item = typing.get_args(kind)[0]
        return origin(build(item, entry, f"{key}[{index}]") for index, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong_type(kind, value, key)
        item = typing.get_args(kind)[1]
        return {str(name): build(item, entry, _join(key, name)) for name, entry in value.items()}
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)  # fits: see MOST_DIGITS
    if type(value) is not kind:  # not isinstance: True is not a number here
        raise _wrong_type(kind, value, key)
    if kind is float and not math.isfinite(value):
        raise UserError(f"'{key}' must be a finite number, not {value!r}.")
    return value


def _build_dataclass(kind: type[T], value: Any, key: str) -> T:
    if not isinstance(value, dict):
        raise _wrong_type(kind, value, key)
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            raise UserError(f"unknown key '{_join(key, name)}'; known there are {_names(fields)}.")
    for name in fields:
        if name not in value:
            raise UserError(f"'{_join(key, name)}' is missing.")
    return kind(**{name: build(hints[name], value[name], _join(key, name)) for name in fields})


def _wrong_type(kind: Any, value: Any, key: str) -> UserError:
    plain = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if dataclasses.is_dataclass(kind) or typing.get_origin(kind) is dict:
        wanted = "a mapping of keys to values"
    elif typing.get_origin(kind) in (tuple, list):
        wanted = "a list"
    else:
        several = [typing.get_origin(option) or option for option in typing.get_args(kind)]
        wanted = plain.get(kind, "text or a list of texts" if list in several else "text or a whole number")
    hint = (
        " (YAML reads numbers such as 1e-4 as text: write 1.0e-4)"
        if kind is float and isinstance(value, str)
        else ""
    )
    return UserError(f"'{key or 'the file'}' must be {wanted}, not {value!r}{hint}.")


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


def _require(holds: bool, key: str, rule: str, value: Any) -> None:
    if not holds:
        raise UserError(f"'{key}' must be {rule}, not {value!r}.")


def _one_of(key: str, value: str, names: Sequence[str] | Mapping[str, Any]) -> None:
    _require(value in names, key, f"one of {_names(names)}", value)


def _check(params: Params) -> None:
    """The rules that types alone cannot say."""
    _check_data(params.data)
    for key, path in params.paths().items():
        _check_path(key, path)
    _check_labels(params.labels)
    _check_grid(params.grid, params.models)
    targets = label_targets.names(params.labels)
    for name, model in params.models.items():
        _check_model(name, model, targets)
    _check_votes(params)
    _one_of("recipe", params.recipe, params.recipes)
    for name, recipe in params.recipes.items():
        for field, holds, rule in recipe.rules():
            _require(holds, f"recipes.{name}.{field}", rule, _field(recipe, field))
    _check_machine(params.machine)
    _check_search(params.search)
    _check_evaluate(params.evaluate)
    _check_compare(params.compare, params)


def _check_data(data: DataParams) -> None:
    _one_of("data.source", data.source, SOURCES)
    _one_of("data.expect", data.expect, EXPECTATIONS)
    _require(
        data.source != "archive" or bool(data.path),
        "data.path",
        "the path of your copy of FER-2013",
        data.path,
    )
    _require(
        data.source != "kaggle" or not data.votes,
        "data.votes", 'empty for the folder set, which has lost the order that votes follow', data.votes,
    )  # fmt: skip
    _require(
        data.source != "synthetic" or not data.votes,
        "data.votes", "empty for drawn faces, which bring their own", data.votes,
    )  # fmt: skip
    digest = data.sha256.lower()
    _require(
        not digest or (len(digest) == 64 and set(digest) <= set("0123456789abcdef")),
        "data.sha256", "64 hexadecimal digits or empty", data.sha256,
    )  # fmt: skip
    _require(
        not digest or data.source != "synthetic",
        "data.sha256",
        "empty for drawn faces, whose bytes are fixed",
        digest,
    )
    for split in ("train", "val", "test"):
        count = getattr(data.synthetic, split)
        _require(
            len(LABELS) <= count <= 1_000_000, f"data.synthetic.{split}", "between 7 and 1,000,000", count
        )
    _require(
        0 <= data.synthetic.ambiguity <= 1,
        "data.synthetic.ambiguity",
        "between 0 and 1",
        data.synthetic.ambiguity,
    )
    _require(data.synthetic.seed >= 0, "data.synthetic.seed", "0 or more", data.synthetic.seed)


def _check_path(key: str, path: str) -> None:
    """It may name nothing, or what cannot be read, but must be something that the system takes for a path."""
    with about(key):
        place = resolve(path)
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # who opens it says so
    except OSError as error:  # links that lead in a circle
        raise UserError(
            f"'{key}' must be a path that leads somewhere, not {path!r} ({error.strerror})."
        ) from None


def _check_labels(labels: Mapping[str, WordSet]) -> None:
    _require(bool(labels), "labels", "at least one set of words", {})
    for name, entry in labels.items():
        _require(_plain(name), f"labels.{name}", "named with letters, digits and _ only", name)
        taken = _names(label_targets.SOURCES)
        _require(
            name not in label_targets.SOURCES, f"labels.{name}", f"named otherwise ({taken} are taken)", name
        )
        _require(
            set(entry.words) == set(LABELS),
            f"labels.{name}.words", f"a mapping with exactly the labels {_names(LABELS)}", list(entry.words),
        )  # fmt: skip
        for label, words in entry.words.items():
            listed = [words] if isinstance(words, str) else words
            filled = bool(words) and all(word.strip() for word in listed)
            _require(filled, f"labels.{name}.words.{label}", "a word, a phrase or a list of them", words)


def _check_grid(grid: Grid, models: Mapping[str, ModelParams]) -> None:
    for key, values in (("grid.models", grid.models), ("grid.seeds", grid.seeds)):
        _require(bool(values), key, "a list with at least one entry", list(values))
        _require(len(set(values)) == len(values), key, "a list without repeats", list(values))
    for name in grid.models:
        _one_of("grid.models", name, models)
    _require(
        all(0 <= seed < 2**31 for seed in grid.seeds), "grid.seeds", "whole numbers from 0", list(grid.seeds)
    )


def _check_model(name: str, model: ModelParams, targets: Sequence[str]) -> None:
    """targets: every name that targets can have."""
    _require(_plain(name), f"models.{name}", "named with letters, digits and _ only", name)
    _one_of(f"models.{name}.loss", model.loss, LOSSES)
    _one_of(f"models.{name}.targets", model.targets, targets)
    _require(
        LOSSES[model.loss].uses_targets or model.targets == "one_hot",
        f"models.{name}.targets", f"one_hot, as the loss {model.loss} uses none", model.targets,
    )  # fmt: skip
    _require(model.learning_rate > 0, f"models.{name}.learning_rate", "above 0", model.learning_rate)
    _check_options(name, model)
    _check_decoders(name, model, targets)


def _check_machine(machine: MachineParams) -> None:
    _one_of("machine.precision", machine.precision, PRECISIONS)
    _one_of("machine.memory_format", machine.memory_format, MEMORY_FORMATS)
    threads = machine.threads
    _require(
        threads == "auto" or (isinstance(threads, int) and threads >= 1),
        "machine.threads",
        "auto or a whole number from 1",
        threads,
    )


def _check_search(search: SearchParams) -> None:
    _require(search.start > 0, "search.start", "above 0", search.start)
    _require(search.factor >= 1.5, "search.factor", "1.5 or more", search.factor)
    _require(1 <= search.trials <= 20, "search.trials", "from 1 to 20", search.trials)
    _require(search.epochs >= 1, "search.epochs", "1 or more", search.epochs)
    _require(
        1 <= search.finalists <= search.trials,
        "search.finalists",
        "from 1 to search.trials",
        search.finalists,
    )
    _require(search.seed >= 0, "search.seed", "0 or more", search.seed)


def _check_evaluate(evaluate: EvaluateParams) -> None:
    _require(evaluate.heat_maps >= 2, "evaluate.heat_maps", "2 or more", evaluate.heat_maps)
    faces = evaluate.class_mean_faces
    _require(faces >= 8, "evaluate.class_mean_faces", "8 or more: a mean of few faces shows a person", faces)


def _check_compare(compare: CompareParams, params: Params) -> None:
    _one_of("compare.baseline", compare.baseline, params.models)
    _require(
        compare.baseline in params.grid.models,
        "compare.baseline",
        "one of grid.models",
        compare.baseline,
    )
    _require(compare.resamples >= 100, "compare.resamples", "100 or more", compare.resamples)


def _check_options(name: str, model: ModelParams) -> None:
    """A loss's options are the fields of its class beyond `targets`, with its types and its own rules."""
    kind: Any = LOSSES[model.loss]
    known = [field.name for field in dataclasses.fields(kind) if field.name != "targets"]
    hints = typing.get_type_hints(kind)
    for option, value in model.options.items():
        key = f"models.{name}.options.{option}"
        if option not in known:
            raise UserError(
                f"unknown key '{key}'; the loss {model.loss} knows {_names(known) or 'no options'}."
            )
        build(hints[option], value, key)
    try:
        kind(torch.eye(len(LABELS)), **model.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"'models.{name}.options' do not suit the loss: {error}.") from None


def _check_decoders(name: str, model: ModelParams, targets: Sequence[str]) -> None:
    """A decoder must be able to work with what the loss's network answers."""
    key, loss = f"models.{name}.decoders", LOSSES[model.loss]
    _require(bool(model.decoders), key, "a list with at least one entry", list(model.decoders))
    _require(
        len(set(model.decoders)) == len(model.decoders), key, "a list without repeats", list(model.decoders)
    )
    for decoder in model.decoders:
        rule, dot, weights = decoder.partition(".")
        _one_of(key, rule, DECODERS)
        kind = DECODERS[rule]
        if kind.weighs:
            example = f"followed by a dot and targets, as {rule}.{targets[0]}"
            _require(weights in targets, key, example, decoder)
        else:
            _require(not dot, key, f"{rule} with nothing behind it", decoder)
        if kind.needs_probabilities and not loss.probabilistic:
            raise UserError(
                f"'{key}' names {decoder}, which needs probabilities, but the loss {model.loss} "
                "trains none: choose another decoder or another loss."
            )
        if kind.needs_vectors and not issubclass(loss, EmbeddingLoss):
            raise UserError(
                f"'{key}' names {decoder}, which compares the output with label vectors, but with "
                f"the loss {model.loss} the network answers with one number per class: choose another decoder."
            )


def _check_votes(params: Params) -> None:
    """A model of the grid that needs FER+ votes would otherwise fail after its training, in evaluate."""
    if params.data.source == "synthetic" or params.data.votes:
        return
    for name in params.grid.models:
        model = params.models[name]
        for choice in (model.targets, *model.decoders):
            # A decoder names its targets behind a dot.
            sources = (label_targets.SOURCES.get(part) for part in choice.split("."))
            if any(source is not None and source.uses_votes for source in sources):
                raise UserError(
                    f"'models.{name}' names {choice}, which is made of FER+ votes, but 'data.votes' is "
                    "empty: set it or take the model out of grid.models."
                )


def _field(recipe: Recipe, dotted: str) -> Any:
    value: Any = recipe
    for part in dotted.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value


def _plain(name: str) -> bool:
    """Names become parts of file names, DVC keys and MLflow tags, where - @ = and / have meanings."""
    return name.replace("_", "").isalnum() and name.isascii()
