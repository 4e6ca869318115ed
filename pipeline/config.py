"""Read `params.yaml` into frozen dataclasses, strictly, so that a typing error never becomes a silent default.

The settings of each part are defined next to the code that they control (`Augment`, `Recipe`, ...); this module
combines them and adds the rules between them. Every problem is one sentence that names the key (see `pipeline.schema`).
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import AfterValidator, Field, model_validator

from pipeline import schema
from pipeline.classical.classifiers import CLASSIFIERS, Classifier
from pipeline.data.classes import MOST, alike, normal, rule
from pipeline.data.fer import LABELS, are_fer2013s
from pipeline.data.splits import SplitParams
from pipeline.data.synthetic.dataset import Synthetic
from pipeline.errors import UserError
from pipeline.evaluation.decoders import DECODERS, DecoderSpec
from pipeline.files import read_text
from pipeline.labels import targets as label_targets
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import LabelSpec
from pipeline.schema import BelowOne, Positive, listed, must_be, problem, quoted, require_one_of, wrong
from pipeline.training.autotune import MachineParams
from pipeline.training.losses import LOSSES, EmbeddingLoss, LogitLoss, takes_soft_labels
from pipeline.training.memory import Relabel, SmallLoss
from pipeline.training.method import CHOICES, Method
from pipeline.training.model import Pool
from pipeline.training.recipe import Recipe
from pipeline.workspace import resolve


def _user_path(path: str) -> str:
    """Accept any string that the system takes for a path, even if it names nothing or cannot be read."""
    try:
        resolve(path).stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # reported when it is opened
    except UserError as error:
        raise problem(f"{{key}} cannot be used: {str(error).rstrip('.')}") from None
    except OSError as error:  # a loop of links
        raise wrong(f"a path that leads somewhere ({error.strerror})") from None
    return path


def label_spec(text: str, *at: str | int) -> LabelSpec:
    """Return what a name of labels stands for; reject any other in a validator, `at` being its place below that."""
    try:
        return LabelSpec.parse(text)
    except ValueError as error:
        raise wrong(str(error).removeprefix("must be "), *at) from None


def _without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise wrong("a list without repeats")
    return values


def _class_name(name: str) -> str:
    name = normal(name)
    if must := rule(name):
        raise wrong(must)
    return name


def _classifier(name: str) -> str:
    if name:
        require_one_of(name, CLASSIFIERS)
    return name


UserPath = Annotated[str, AfterValidator(_user_path)]
Digest = Annotated[str, Field(pattern="^([0-9A-Fa-f]{64})?$"), must_be("64 hexadecimal digits or empty")]
Name = Annotated[str, Field(pattern="^_*[A-Za-z0-9][A-Za-z0-9_]*$"), must_be("named with letters, digits and _ only")]
"""Names become parts of file names, DVC keys and MLflow tags, where - @ = and / have meanings."""
Word = Annotated[str, Field(pattern=r"\S")]
ClassName = Annotated[str, AfterValidator(_class_name)]
Words = Annotated[Word | Annotated[list[Word], Field(min_length=1)], must_be("a word, a phrase or a list of them")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Faces = Annotated[int, Field(ge=8), must_be("a whole number from 8: a mean of few faces shows a person")]
Filled = Field(min_length=1)
Distinct = AfterValidator(_without_repeats)


def _normal_keys(words: dict[str, Any]) -> dict[str, Any]:
    return {normal(label): word for label, word in words.items()}


@dataclass(frozen=True)
class DataParams:
    source: Literal["synthetic", "archive", "kaggle", "folder"]
    path: UserPath
    votes: UserPath
    sha256: Digest
    expect: Literal["any", "fer2013"]
    synthetic: Synthetic
    labels: tuple[ClassName, ...] = ()
    """The classes in their order; empty: FER-2013's seven, or the folders of the source `folder`."""
    split: SplitParams = field(default_factory=SplitParams)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes in their order; None if only the folder of pictures tells."""
        return self.labels or (None if self.source == "folder" else LABELS)

    @model_validator(mode="after")
    def _suit_the_source(self) -> DataParams:
        if self.source == "archive" and not self.path:
            raise wrong("the path of your copy of FER-2013", "path")
        if self.source == "kaggle" and self.votes:
            raise wrong("empty for the folder set, which has lost the order that votes follow", "votes")
        if self.source == "synthetic" and self.votes:
            raise wrong("empty for drawn faces, which have their own votes", "votes")
        if self.source == "synthetic" and self.sha256:
            raise wrong("empty for drawn faces, whose bytes are fixed", "sha256")
        if self.source == "folder":
            if not self.path:
                raise wrong("the path of a folder of pictures", "path")
            if self.votes:
                raise wrong("empty for a folder of pictures, which FER+ knows nothing of", "votes")
            if self.expect != "any":
                raise wrong("any for a folder of pictures, which is not FER-2013 as published", "expect")
        elif self.labels not in ((), LABELS):
            raise problem(
                f"{{key}} must be empty or FER-2013's seven in their order ({', '.join(LABELS)}) unless data.source is "
                "folder",
                "labels",
            )
        return self

    @model_validator(mode="after")
    def _classes_can_be_told_apart(self) -> DataParams:
        if self.labels and not 2 <= len(self.labels) <= MOST:
            raise problem(f"{{key}} has {len(self.labels)}, but must have from 2 to {MOST} entries", "labels")
        if (same := alike(self.labels)) is not None:
            raise problem(
                f"{{key}} has {same[0]!r} and {same[1]!r}, which differ only in case, or not at all in MLflow: rename "
                "one",
                "labels",
            )
        return self


@dataclass(frozen=True)
class WordSet:
    """The words that stand for the labels, and the word2vec file that holds their vectors."""

    vectors: UserPath
    words: Annotated[dict[str, Words], AfterValidator(_normal_keys)]


@dataclass(frozen=True)
class LandmarkParams:
    """source: where landmarks come from; auto: from the drawer for drawn faces, from nowhere for photographs.

    predictor: the file of dlib's trained predictor. neighbours: how many similar faces each training image has.
    """

    source: Literal["auto", "dlib", "none"]
    predictor: UserPath
    neighbours: Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True)
class Grid:
    models: Annotated[tuple[str, ...], Filled, Distinct]
    seeds: Annotated[tuple[Seed, ...], Filled, Distinct]

    def pairs(self) -> list[tuple[str, int]]:
        """Return every combination of model and seed, seeds innermost."""
        return [(model, seed) for model in self.models for seed in self.seeds]


@dataclass(frozen=True, kw_only=True)
class ModelParams:
    """One row of the study: loss, targets and decoders, chosen independently, and the learning rate of that loss.

    The first decoder is the model's own; each further one adds a row to the table without another training. A row with
    a `classifier` has no network, and of the other keys only options and decoders.
    """

    loss: str = ""
    options: dict[str, Any]
    targets: str = "one_hot"
    decoders: Annotated[tuple[str, ...], Filled, Distinct]
    learning_rate: Positive = 0.0
    labels: str = ""
    """The labels that the model is trained on (`labels.truth`); empty: those of the data."""
    mix: dict[str, Any] = field(default_factory=dict)
    consistency: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    distillation: dict[str, Any] = field(default_factory=dict)
    """A kind of `training.method.CHOICES` and its options, like the four before; empty: none."""
    pool: Pool = "max"
    epoch_factor: Annotated[int, Field(ge=1, le=100)] = 1
    """How many times as many epochs as the recipe has: for controls of equal cost."""
    self_distillation: BelowOne | None = None
    """In the place of the recipe's; None: as there."""
    classifier: Annotated[str, AfterValidator(_classifier)] = ""
    """One of `CLASSIFIERS`; empty: a network."""

    @property
    def choices(self) -> dict[str, Any]:
        """The optional choices that this row makes, by key: what older runs have no key for."""
        return {name: value for name in ("labels", "classifier", *CHOICES) if (value := getattr(self, name))} | {
            name: value
            for name, default in (("pool", "max"), ("self_distillation", None))
            if (value := getattr(self, name)) != default
        }

    @property
    def method(self) -> Method:
        """The choices that the training loop makes use of."""
        return Method.of({key: getattr(self, key) for key in CHOICES})

    @property
    def target_specs(self) -> dict[str, TargetSpec]:
        """The targets of the loss, and those by which decoders weigh mistakes, by the words that name them."""
        weights = {choice: DecoderSpec.parse(choice).weights for choice in self.decoders}
        found = {choice: spec for choice, spec in weights.items() if spec}
        return {**found, self.targets: TargetSpec.parse(self.targets)}

    @property
    def of_training(self) -> dict[str, Any]:
        """Return the settings that determine what is trained, as they are part of a run's identity."""
        if self.classifier:
            return {"classifier": self.classifier, "options": self.options}
        return {"loss": self.loss, "options": self.options, "learning_rate": self.learning_rate, **self.choices}

    def make_classifier(self) -> Classifier:
        """Return the classifier with its options. Raises KeyError if the model is a network."""
        make: Any = CLASSIFIERS[self.classifier]
        return cast(Classifier, make(**self.options))

    @property
    def uses_landmarks(self) -> bool:
        """Whether its training reads the landmarks of the data set."""
        return bool(self.classifier) and CLASSIFIERS[self.classifier].features.uses_landmarks

    @property
    def uses_neighbours(self) -> bool:
        """Whether its training reads which images have similar landmarks."""
        return self.memory.get("kind") == "neighbours"

    @model_validator(mode="before")
    @classmethod
    def _is_a_network_or_a_classifier(cls, value: Any) -> Any:
        """Reject a missing key, and keys of a network given to a classifier."""
        if not isinstance(value, dict):
            return value
        if value.get("classifier", "") != "":
            for name in value:
                if name not in ("classifier", "options", "decoders"):
                    raise problem(
                        "{key} is about a network, but this model is a classifier without one: remove one of the two",
                        name,
                    )
        else:
            for name in ("loss", "targets", "learning_rate"):
                if name not in value:
                    raise problem("{key} is missing", name)
        return value

    @model_validator(mode="after")
    def _suits_its_loss(self) -> ModelParams:
        """Check the options against the fields of the loss's class beyond `targets`, with their types and rules."""
        if self.classifier:
            kind = CLASSIFIERS[self.classifier]
            _require_options(kind, self.options, f"the classifier {self.classifier}", "options")
            return self
        require_one_of(self.loss, LOSSES, "loss")
        if self.targets != "one_hot" and not LOSSES[self.loss].uses_targets:
            raise wrong(f"one_hot, because the loss {self.loss} uses no targets", "targets")
        _require_options(
            LOSSES[self.loss],
            self.options,
            f"the loss {self.loss}",
            "options",
            given={"targets": torch.eye(len(LABELS))},
        )
        for key, table in CHOICES.items():
            choice = getattr(self, key)
            if choice:
                if "kind" not in choice:
                    raise problem("{key} is missing", key, "kind")
                require_one_of(choice["kind"], table, key, "kind")
                options = {name: value for name, value in choice.items() if name != "kind"}
                _require_options(table[choice["kind"]], options, f"{key} {choice['kind']}", key)
        return self

    @model_validator(mode="after")
    def _choices_fit_together(self) -> ModelParams:
        if self.classifier:
            return self
        labels = label_spec(self.labels, "labels").kind if self.labels else None
        method, loss = self.method, f"the loss {self.loss}"
        soft = {
            "labels": bool(labels and labels.is_soft),
            "mix": method.mix is not None,
            "memory": bool(method.memory and method.memory.is_soft),
        }
        for key in (key for key, needed in soft.items() if needed):
            if not takes_soft_labels(LOSSES[self.loss]):
                what = f"{{key}} is {_named(getattr(self, key))}, but {loss} takes one label per image and no weights"
                raise problem(f"{what}: choose another loss", key)
        if method.consistency and not issubclass(LOSSES[self.loss], LogitLoss):
            what = f"{{key}} compares class maps, but with {loss} the network outputs a vector"
            raise problem(f"{what}: choose another loss", "consistency")
        if method.memory and method.mix:
            what = "{key} uses the network's prediction for each image, but mix shows it mixed images"
            raise problem(f"{what}: remove one of the two", "memory")
        if method.memory and labels and labels.selects:
            what = f"{{key}} needs every image in each epoch, but the labels {self.labels} leave some out"
            raise problem(f"{what}: remove one of the two", "memory")
        if isinstance(method.memory, Relabel | SmallLoss) and labels and labels.is_distribution:
            what = f"{{key}} judges the one label of an image, but the labels {self.labels} are distributions"
            raise problem(f"{what}: remove one of the two", "memory")
        return self


def _named(choice: str | dict[str, Any]) -> str:
    return choice if isinstance(choice, str) else str(choice["kind"])


type_hints = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))
"""Evaluated again for each of sixty models, the annotations would take most of the time of reading params.yaml."""


def _require_options(
    kind: Any, options: dict[str, Any], whose: str, *at: str, given: dict[str, Any] | None = None
) -> None:
    """Raise unless `options` are fields of the dataclass `kind`, of their types, and accepted by it."""
    given = given or {}
    known = [field.name for field in dataclasses.fields(kind) if field.name not in given]
    hints = type_hints(kind)
    for option, value in options.items():
        if option not in known:
            knows = listed(known) or "no options"
            raise problem(f"{{key}} is not an option of {whose}, which has {knows}", *at, option)
        schema.require(hints[option], value, *at, option)
    try:
        kind(**given, **options)
    except (TypeError, ValueError) as error:
        raise problem(f"{{key}} do not fit the loss: {error}" if given else f"{{key}} is wrong: {error}", *at) from None


@dataclass(frozen=True)
class SearchParams:
    """The budget of the learning-rate search, the same for every model."""

    start: Positive
    factor: Annotated[float, Field(ge=1.5)]
    trials: Annotated[int, Field(ge=1, le=20)]
    epochs: Annotated[int, Field(ge=1)]
    finalists: Annotated[int, Field(ge=1), must_be("a whole number from 1 to search.trials")]
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _try_what_they_train(self) -> SearchParams:
        if self.finalists > self.trials:
            raise wrong("a whole number from 1 to search.trials", "finalists")
        return self


@dataclass(frozen=True)
class EvaluateParams:
    heat_maps: Annotated[int, Field(ge=2)]
    class_mean_faces: Faces


@dataclass(frozen=True)
class CompareParams:
    baseline: str
    resamples: Annotated[int, Field(ge=100)]


@dataclass(frozen=True)
class Params:
    data: DataParams
    labels: Annotated[dict[Name, WordSet], Filled]
    grid: Grid
    models: dict[Name, ModelParams]
    recipe: str
    recipes: dict[str, Recipe]
    machine: MachineParams
    search: SearchParams
    evaluate: EvaluateParams
    compare: CompareParams
    landmarks: LandmarkParams = LandmarkParams("none", "", 8)
    """Settings that were kept with a study may be older than this section."""
    teachers: Annotated[str, Field(min_length=1), must_be("a path")] = ""
    """The folder of the networks that rows with a distillation learn from; older settings have none."""

    def model(self, name: str) -> ModelParams:
        """Return the settings of one model. Raises UserError if there is none with that name."""
        if name not in self.models:
            raise UserError(f"Unknown model '{name}' under `models:` in params.yaml. Valid: {listed(self.models)}.")
        return self.models[name]

    def paths(self) -> dict[str, str]:
        """Return every setting that names one of the user's files, by its key."""
        vectors = {f"labels.{name}.vectors": words.vectors for name, words in self.labels.items()}
        predictor = {"landmarks.predictor": self.landmarks.predictor}
        own = {"data.path": self.data.path, "data.votes": self.data.votes, "teachers": self.teachers}
        return {**own, **predictor, **vectors}

    @property
    def landmark_source(self) -> Literal["drawer", "dlib", "none"]:
        """Where landmarks come from, for these data."""
        if self.landmarks.source == "auto":
            return "drawer" if self.data.source == "synthetic" else "none"
        return self.landmarks.source

    def word_sets(self, classes: Sequence[str]) -> dict[str, WordSet]:
        """Return the sets of words of these classes.

        FER-2013's own sets are left out of other classes if nothing in the grid uses them. Raises UserError for any
        other set that has not exactly the classes as keys.
        """
        for name, what in self._misfits(classes):
            raise UserError(f"params.yaml: 'labels.{name}.words' {what}, which are those of the data.")
        return {name: words for name, words in self.labels.items() if set(words.words) == set(classes)}

    def _misfits(self, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each set of words that does not fit the classes, and what is wrong with its keys."""
        used = {spec.source for name in self.grid.models for spec in self.models[name].target_specs.values()}
        for name, words in self.labels.items():
            spare = name not in used and are_fer2013s(list(words.words)) and not are_fer2013s(classes)
            if set(words.words) != set(classes) and not spare:
                keys = quoted(list(words.words))
                yield name, f"has the keys {keys}, but must have exactly the labels {listed(classes)}"

    @property
    def chosen_recipe(self) -> Recipe:
        """The recipe that `recipe` names."""
        return self.recipes[self.recipe]

    def recipe_of(self, model: str) -> Recipe:
        """Return the recipe that a model is trained by: the chosen one with what the model wants otherwise."""
        row, recipe = self.model(model), self.chosen_recipe
        own = recipe.self_distillation if row.self_distillation is None else row.self_distillation
        return dataclasses.replace(recipe, epochs=row.epoch_factor * recipe.epochs, self_distillation=own)

    @model_validator(mode="after")
    def _names_are_known(self) -> Params:
        for name in self.labels:
            if name in label_targets.SOURCES:
                taken = listed(label_targets.SOURCES)
                raise problem(f"{{key}} must have another name ({taken} are reserved)", "labels", name)
        for index, name in enumerate(self.grid.models):
            require_one_of(name, self.models, "grid", "models", index)
        require_one_of(self.recipe, self.recipes, "recipe")
        if self.compare.baseline not in self.grid.models:
            raise wrong(f"one of grid.models, {listed(self.grid.models)}", "compare", "baseline")
        return self

    @model_validator(mode="after")
    def _models_fit_together(self) -> Params:
        targets = label_targets.names(self.labels)
        has_votes = self.data.source == "synthetic" or bool(self.data.votes)
        own = self.data.source == "folder"
        for name, model in self.models.items():
            require_one_of(model.targets, targets, "models", name, "targets")
            for index, decoder in enumerate(model.decoders):
                if model.classifier:
                    _require_argmax(decoder, model.classifier, "models", name, "decoders", index)
                else:
                    _require_decoder(decoder, model.loss, targets, "models", name, "decoders", index)
            if name not in self.grid.models:
                continue
            if (model.uses_landmarks or model.uses_neighbours) and self.landmark_source == "none":
                what = f"landmarks, but 'landmarks.source' is {self.landmarks.source}"
                why = ", which has none of photographs" if self.landmarks.source == "auto" else ""
                remedy = "set it to dlib or take the model out of grid.models"
                raise problem(f"{{key}} needs {what}{why}: {remedy}", "models", name)
            # Without votes such a model would fail after its training, in evaluate.
            uses_votes = {choice: spec.uses_votes for choice, spec in model.target_specs.items()}
            if model.labels:
                uses_votes[model.labels] = LabelSpec.parse(model.labels).kind.uses_votes
            for choice in (choice for choice, used in uses_votes.items() if used):
                if not has_votes:
                    what = f"{choice}, which is made of FER+ votes, but "
                    what += "a folder of pictures has none" if own else "'data.votes' is empty"
                    remedy = f"{'' if own else 'set it or '}take the model out of grid.models"
                    raise problem(f"{{key}} names {what}: {remedy}", "models", name)
            for choice, spec in model.target_specs.items():
                if spec.is_of_fer2013 and self.data.classes and not are_fer2013s(self.data.classes):
                    what = f"{choice}, which is known for FER-2013's classes alone"
                    raise problem(f"{{key}} names {what}: take the model out of grid.models", "models", name)
        return self

    @model_validator(mode="after")
    def _words_are_of_the_classes(self) -> Params:
        for name, what in self._misfits(self.data.classes) if self.data.classes else ():
            raise problem(f"{{key}} {what}", "labels", name, "words")
        return self

    @model_validator(mode="after")
    def _methods_fit_the_recipe(self) -> Params:
        recipe, name = self.chosen_recipe, self.recipe
        for model in self.grid.models:
            kind = self.models[model].mix.get("kind")
            if kind and self.recipe_of(model).self_distillation:
                what = "mixes images, and self-distillation learns from what the network said of each image by itself"
                remedy = f"set models.{model}.self_distillation to 0.0"
                raise problem(f"{{key}} {what}: {remedy}", "models", model, "mix")
            if self.models[model].distillation and self.recipe_of(model).self_distillation:
                what = f"learns from teachers, but the recipe {name} has self-distillation"
                remedy = f"set models.{model}.self_distillation to 0.0"
                raise problem(f"{{key}} {what}: {remedy}", "models", model, "distillation")
            if kind == "cutmix" and recipe.augment.cutout:
                what = f"pastes boxes, and the recipe {name} cuts out others, so that neither could be judged"
                remedy = f"set recipes.{name}.augment.cutout to 0.0"
                raise problem(f"{{key}} {what}: {remedy}", "models", model, "mix")
        return self


def _require_argmax(decoder: str, classifier: str, *at: str | int) -> None:
    """Raise for another decoder: a classifier without a network trains neither probabilities nor vectors."""
    if decoder != "argmax":
        raise problem(
            f"{{key}} is {decoder}, but the classifier {classifier} has scores alone: argmax is its only decoder", *at
        )


def _require_decoder(decoder: str, loss: str, targets: Sequence[str], *at: str | int) -> None:
    """Raise unless the decoder can work with the output of the loss's network."""
    spec = DecoderSpec.parse(decoder)
    require_one_of(rule := spec.rule, DECODERS, *at)
    kind = DECODERS[rule]
    if kind.weighs and decoder.removeprefix(f"{rule}.") not in targets:
        raise wrong(f"followed by a dot and targets, such as {rule}.{targets[0]}", *at)
    if spec.weights and not kind.weighs:
        raise wrong(f"{rule} with nothing after it", *at)
    if kind.needs_probabilities and not LOSSES[loss].probabilistic:
        what = f"needs probabilities, but the loss {loss} trains none: choose another decoder or another loss"
        raise problem(f"{{key}} is {decoder}, which {what}", *at)
    if kind.needs_vectors and not issubclass(LOSSES[loss], EmbeddingLoss):
        why = f"but with the loss {loss} the network outputs one number per class: choose another decoder"
        raise problem(f"{{key}} is {decoder}, which compares the output with label vectors, {why}", *at)


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check `params.yaml`. Raises UserError naming the key that is wrong."""
    if not path.exists():
        raise UserError(f"{path} does not exist: run stages from the repository's root.")
    return parse(read_text(path), str(path))


def parse(text: str, where: str = "params.yaml") -> Params:
    """Check the text of a `params.yaml`. Errors begin with its origin, `where`."""
    return schema.parse(Params, text, where)
