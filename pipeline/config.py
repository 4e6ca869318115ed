"""Read `params.yaml` into frozen dataclasses, strictly, so that a typing error never becomes a silent default.

The settings of each part are defined next to the code that they control (`Augment`, `Recipe`, ...); this module
combines them and adds the rules between them. Every problem is one sentence that names the key (see `pipeline.schema`).
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import AfterValidator, Field, model_validator

from pipeline import schema
from pipeline.classical.classifiers import CLASSIFIERS, Classifier
from pipeline.data.fer import LABELS
from pipeline.data.synthetic.dataset import Synthetic
from pipeline.errors import UserError
from pipeline.evaluation.decoders import DECODERS, DecoderSpec
from pipeline.labels import targets as label_targets
from pipeline.labels.targets import TargetSpec
from pipeline.labels.truth import LabelSpec
from pipeline.schema import listed, must_be, problem, quoted, require_one_of, wrong
from pipeline.training.autotune import MachineParams
from pipeline.training.losses import LOSSES, EmbeddingLoss, takes_soft_labels
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


def _without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise wrong("a list without repeats")
    return values


def _classifier(name: str) -> str:
    require_one_of(name, CLASSIFIERS)
    return name


UserPath = Annotated[str, AfterValidator(_user_path)]
Digest = Annotated[str, Field(pattern="^([0-9A-Fa-f]{64})?$"), must_be("64 hexadecimal digits or empty")]
Name = Annotated[
    str, Field(pattern="^_*[A-Za-z0-9][A-Za-z0-9_]*$"), must_be("named with letters, digits and _ only")
]
"""Names become parts of file names, DVC keys and MLflow tags, where - @ = and / have meanings."""
Word = Annotated[str, Field(pattern=r"\S")]
Words = Annotated[
    Word | Annotated[list[Word], Field(min_length=1)], must_be("a word, a phrase or a list of them")
]
Rate = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Faces = Annotated[int, Field(ge=8), must_be("a whole number from 8: a mean of few faces shows a person")]
Filled = Field(min_length=1)
Distinct = AfterValidator(_without_repeats)


@dataclass(frozen=True)
class DataParams:
    source: Literal["synthetic", "archive", "kaggle"]
    path: UserPath
    votes: UserPath
    sha256: Digest
    expect: Literal["any", "fer2013"]
    synthetic: Synthetic

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
        return self


@dataclass(frozen=True)
class WordSet:
    """The words that stand for the labels, and the word2vec file that holds their vectors."""

    vectors: UserPath
    words: dict[str, Words]

    @model_validator(mode="after")
    def _are_of_the_labels(self) -> WordSet:
        if set(self.words) != set(LABELS):
            keys = quoted(list(self.words))
            raise problem(
                f"{{key}} has the keys {keys}, but must have exactly the labels {listed(LABELS)}", "words"
            )
        return self


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
    learning_rate: Rate = 0.0
    labels: str = ""
    """What Training is told of its images (see `labels.truth`); empty: their labels."""
    classifier: Annotated[str, AfterValidator(_classifier)] = ""
    """One of `CLASSIFIERS`; empty: a network."""

    def of_training(self) -> dict[str, Any]:
        """Return the settings that determine what is trained, as they are part of a run's identity."""
        if self.classifier:
            return {"classifier": self.classifier, "options": self.options}
        labels = {"labels": self.labels} if self.labels else {}  # older runs have no such key
        return {"loss": self.loss, "options": self.options, "learning_rate": self.learning_rate, **labels}

    def make_classifier(self) -> Classifier:
        """Return the classifier with its options. Raises KeyError if the model is a network."""
        make: Any = CLASSIFIERS[self.classifier]
        return cast(Classifier, make(**self.options))

    @property
    def uses_landmarks(self) -> bool:
        """Whether its training reads the landmarks of the data set."""
        return bool(self.classifier) and CLASSIFIERS[self.classifier].features.uses_landmarks

    @model_validator(mode="before")
    @classmethod
    def _is_a_network_or_a_classifier(cls, value: Any) -> Any:
        """Reject a missing key, and keys of a network beside a classifier."""
        if not isinstance(value, dict):
            return value
        if "classifier" in value:
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
            _require_options(CLASSIFIERS[self.classifier], self.options, f"classifier {self.classifier}")
            return self
        require_one_of(self.loss, LOSSES, "loss")
        if self.targets != "one_hot" and not LOSSES[self.loss].uses_targets:
            raise wrong(f"one_hot, because the loss {self.loss} uses no targets", "targets")
        if self.labels:
            try:
                spec = LabelSpec.parse(self.labels)
            except ValueError as error:
                raise wrong(str(error).removeprefix("must be "), "labels") from None
            if spec.kind.is_soft and not takes_soft_labels(LOSSES[self.loss]):
                raise problem(
                    f"{{key}} is {self.labels}, but the loss {self.loss} knows one label of an image and no weight: "
                    "choose another loss",
                    "labels",
                )
        _require_options(LOSSES[self.loss], self.options, f"loss {self.loss}", torch.eye(len(LABELS)))
        return self


def _require_options(kind: Any, options: dict[str, Any], what: str, *targets: torch.Tensor) -> None:
    """Raise unless the options are fields of the dataclass `kind` beyond `targets`, of their types, and it takes them.

    what: what it is and its name.
    """
    known = [field.name for field in dataclasses.fields(kind) if field.name != "targets"]
    hints = typing.get_type_hints(kind)
    for option, value in options.items():
        if option not in known:
            knows = listed(known) or "no options"
            raise problem(f"{{key}} is not an option of the {what}, which has {knows}", "options", option)
        schema.require(hints[option], value, "options", option)
    try:
        kind(*targets, **options)
    except (TypeError, ValueError) as error:
        raise problem(f"{{key}} do not fit the {what.split()[0]}: {error}", "options") from None


@dataclass(frozen=True)
class SearchParams:
    """The budget of the learning-rate search, the same for every model."""

    start: Rate
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

    def model(self, name: str) -> ModelParams:
        """Return the settings of one model. Raises UserError if there is none with that name."""
        if name not in self.models:
            raise UserError(
                f"There is no model '{name}' under `models:` in params.yaml; there are {listed(self.models)}."
            )
        return self.models[name]

    def paths(self) -> dict[str, str]:
        """Return every setting that names one of the user's files, by its key."""
        vectors = {f"labels.{name}.vectors": words.vectors for name, words in self.labels.items()}
        predictor = {"landmarks.predictor": self.landmarks.predictor}
        return {"data.path": self.data.path, "data.votes": self.data.votes, **predictor, **vectors}

    @property
    def landmark_source(self) -> Literal["drawer", "dlib", "none"]:
        """Where landmarks come from, for these data."""
        if self.landmarks.source == "auto":
            return "drawer" if self.data.source == "synthetic" else "none"
        return self.landmarks.source

    @property
    def chosen_recipe(self) -> Recipe:
        """The recipe that `recipe` names."""
        return self.recipes[self.recipe]

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
        for name, model in self.models.items():
            require_one_of(model.targets, targets, "models", name, "targets")
            for index, decoder in enumerate(model.decoders):
                if model.classifier:
                    _require_argmax(decoder, model.classifier, "models", name, "decoders", index)
                else:
                    _require_decoder(decoder, model.loss, targets, "models", name, "decoders", index)
            if model.uses_landmarks and name in self.grid.models and self.landmark_source == "none":
                what = f"landmarks, but 'landmarks.source' is {self.landmarks.source}"
                why = ", which has none of photographs" if self.landmarks.source == "auto" else ""
                mend = "set it to dlib or take the model out of grid.models"
                raise problem(f"{{key}} needs {what}{why}: {mend}", "models", name)
            # Without votes such a model would fail after its training, in evaluate.
            weights = {choice: DecoderSpec.parse(choice).weights for choice in model.decoders}
            uses_votes = {choice: bool(spec and spec.uses_votes) for choice, spec in weights.items()}
            uses_votes[model.targets] = TargetSpec.parse(model.targets).uses_votes
            if model.labels:
                uses_votes[model.labels] = LabelSpec.parse(model.labels).kind.uses_votes
            for choice in (choice for choice, used in uses_votes.items() if used):
                if not has_votes and name in self.grid.models:
                    what = f"{choice}, which is made of FER+ votes, but 'data.votes' is empty"
                    mend = "set it or take the model out of grid.models"
                    raise problem(f"{{key}} names {what}: {mend}", "models", name)
        return self


def _require_argmax(decoder: str, classifier: str, *at: str | int) -> None:
    """Raise for another decoder: a classifier without a network trains neither probabilities nor vectors."""
    if decoder != "argmax":
        raise problem(
            f"{{key}} is {decoder}, but the classifier {classifier} has scores alone: argmax is its only decoder",
            *at,
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
        why = (
            f"but with the loss {loss} the network answers with one number per class: choose another decoder"
        )
        raise problem(f"{{key}} is {decoder}, which compares the output with label vectors, {why}", *at)


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
    """Check the text of a `params.yaml`. Errors begin with its origin, `where`."""
    return schema.parse(Params, text, where)
