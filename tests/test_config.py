"""params.yaml is read strictly: whatever is wrong with it is one sentence that names the key."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import yaml
from pydantic import Field
from pydantic_core import PydanticCustomError

from pipeline import config, schema
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.evaluation.decoders import DECODERS
from pipeline.labels.targets import SOURCES, names
from pipeline.schema import listed
from pipeline.training.losses import LOSSES, EmbeddingLoss

PARAMS = Path(__file__).parents[1] / "params.yaml"
RAW: dict[str, Any] = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
FREE = ("models", "labels", "recipes")
"""Mappings whose keys are the user's own names: every entry is checked alike, so the first stands for all."""
WORDS = "labels.word2vec.words"
"""A mapping with exactly the labels as keys, which has a rule of its own."""
OPTIONAL = (
    "landmarks",
    "teachers",
    "data.labels",
    "data.split",
    "data.split.val",
    "data.split.test",
    "data.split.seed",
)
"""Keys that may be absent."""
REMOVED = object()


def entries(mapping: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of params.yaml, dotted, with their values; the options of a loss are one value."""
    for name, value in list(mapping.items())[: 1 if above.removesuffix(".") in FREE else None]:
        yield above + name, value
        if isinstance(value, dict) and name != "options":
            yield from entries(value, f"{above}{name}.")


ENTRIES = dict(entries(RAW))
SECTIONS = [
    key
    for key, value in ENTRIES.items()
    if isinstance(value, dict) and not key.endswith(".options") and key not in (*FREE, WORDS)
]
WRONG: tuple[Any, ...] = (None, True, [[]])
"""Values of types that few keys take."""
MODELS = listed(RAW["models"])


def above(key: str) -> str:
    return key.rpartition(".")[0]


def changed(key: str, value: Any) -> dict[str, Any]:
    """The parameters with one dotted key set, added or removed."""
    raw = copy.deepcopy(RAW)
    *path, last = key.split(".")
    section = raw
    for name in path:
        section = section[name]
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return raw


def load(folder: Path, raw: Any) -> config.Params:
    """Read a file with this text; values are checked as if they had come from one, which saves most of the time."""
    path = folder / "params.yaml"
    if isinstance(raw, str):
        path.write_text(raw, encoding="utf-8")
        return config.load(path)
    return schema.check(config.Params, raw, str(path))


def refusal(folder: Path, raw: Any) -> str:
    """The one sentence with which these parameters are refused."""
    with pytest.raises(UserError) as error:
        load(folder, raw)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert message.startswith(f"{folder}/params.yaml")  # which of several files it is about
    return message.removeprefix(f"{folder}/")


def as_yaml(value: Any) -> Any:
    """Tuples as the lists that YAML knows."""
    if isinstance(value, dict):
        return {name: as_yaml(entry) for name, entry in value.items()}
    return [as_yaml(entry) for entry in value] if isinstance(value, list | tuple) else value


def test_the_shipped_file_loads_and_nothing_of_it_is_lost() -> None:
    params = config.load(PARAMS)
    read = as_yaml(dataclasses.asdict(params))
    defaults = {
        "labels": "",
        "mix": {},
        "consistency": {},
        "memory": {},
        "policy": {},
        "pool": "max",
        "epoch_factor": 1,
        "distillation": {},
        "self_distillation": None,
        "classifier": "",
    }
    for model in read["models"].values():
        for name, default in defaults.items():  # the keys that may be absent
            if model[name] == default:
                del model[name]
        if "classifier" in model:
            for key in ("loss", "targets", "learning_rate"):
                del model[key]
    assert read == RAW
    assert params.chosen_recipe is params.recipes[RAW["recipe"]]
    assert params.model("w2v_softmax").options == {"scale": 10.0}


def test_the_grid_is_every_model_with_every_seed() -> None:
    grid = config.Grid(("baseline", "w2v_cosine"), (0, 7))
    assert grid.pairs() == [("baseline", 0), ("baseline", 7), ("w2v_cosine", 0), ("w2v_cosine", 7)]


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError) as error:
        config.load(PARAMS).model("baselin")
    assert str(error.value) == (f"Unknown model 'baselin' under `models:` in params.yaml. Valid: {MODELS}.")


@pytest.mark.parametrize("section", ["", *SECTIONS])
def test_an_unknown_key_is_named_with_the_known_ones(tmp_path: Path, section: str) -> None:
    key = f"{section}.momentun".removeprefix(".")
    known = ", ".join(entry.rpartition(".")[2] for entry in ENTRIES if above(entry) == section)
    if above(section) == "models":
        known = ", ".join(field.name for field in dataclasses.fields(config.ModelParams))
    if not section:
        optional = ["landmarks", "teachers"]  # those that may be absent come last
        known = ", ".join([*(name for name in known.split(", ") if name not in optional), *optional])
    message = refusal(tmp_path, changed(key, 1))
    assert message == f"params.yaml: Unknown key '{key}'. Valid keys: {known}."


def test_kept_settings_may_be_older_than_landmarks(tmp_path: Path) -> None:
    assert load(tmp_path, changed("landmarks", REMOVED)).landmark_source == "none"


@pytest.mark.parametrize("key", [key for key in ENTRIES if above(key) not in (*FREE, WORDS) and key not in OPTIONAL])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    assert refusal(tmp_path, changed(key, REMOVED)) == f"params.yaml: '{key}' is missing."


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        (key, 1 if isinstance(value, bool) and wrong is True else wrong)
        for key, value in ENTRIES.items()
        for wrong in WRONG
    ],
    ids=repr,
)
def test_a_value_of_the_wrong_type_is_named(tmp_path: Path, key: str, wrong: Any) -> None:
    inside = "[0]" if isinstance(wrong, list) and isinstance(ENTRIES[key], list) else ""
    shown = [] if inside else wrong
    message = refusal(tmp_path, changed(key, wrong))
    assert message.startswith(f"params.yaml: '{key}{inside}' is {shown!r}, but must be ")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("data.source", "kagle", "'synthetic', 'archive', 'kaggle' or 'folder'"),
        ("data.source", 3, "'synthetic', 'archive', 'kaggle' or 'folder'"),
        ("data.expect", "fer", "'any' or 'fer2013'"),
        ("data.sha256", "abc", "64 hexadecimal digits or empty"),
        ("data.sha256", "g" * 64, "64 hexadecimal digits or empty"),
        ("data.synthetic.train", 6, "from 7 to 1,000,000"),
        ("data.synthetic.val", 1_000_001, "from 7 to 1,000,000"),
        ("data.synthetic.test", 100.0, "a whole number"),
        ("data.synthetic.ambiguity", 1.01, "from 0 to 1"),
        ("data.synthetic.ambiguity", -0.1, "from 0 to 1"),
        ("data.synthetic.seed", -1, "0 or more"),
        ("labels", {}, "1 or more entries"),
        ("labels.word2vec.vectors", {"file": "a"}, "text"),
        (f"{WORDS}.angry", "", "a word, a phrase or a list of them"),
        (f"{WORDS}.angry", " ", "a word, a phrase or a list of them"),
        (f"{WORDS}.angry", [], "a word, a phrase or a list of them"),
        (f"{WORDS}.angry", ["angry", ""], "a word, a phrase or a list of them"),
        (f"{WORDS}.angry", ["angry", 3], "a word, a phrase or a list of them"),
        ("grid.models", [], "1 or more entries"),
        ("grid.models", ["baseline", "baseline"], "a list without repeats"),
        ("grid.models[1]", ["baseline", "w2v"], f"one of {MODELS}"),
        ("grid.seeds", [], "1 or more entries"),
        ("grid.seeds", [1, 0, 1], "a list without repeats"),
        ("grid.seeds[0]", [-1], "from 0 to 2,147,483,647"),
        ("grid.seeds[0]", [2**31], "from 0 to 2,147,483,647"),
        ("grid.seeds", "0", "a list"),
        ("grid.seeds", {"from": 0}, "a list"),
        ("models.baseline.loss", "crossentropy", f"one of {', '.join(LOSSES)}"),
        ("models.w2v_cosine.targets", "w2v", f"one of {', '.join(names(RAW['labels']))}"),
        ("models.baseline.decoders", "argmax", "a list"),
        ("models.baseline.decoders", [], "1 or more entries"),
        ("models.baseline.decoders", ["argmax", "crm.human", "argmax"], "a list without repeats"),
        ("models.baseline.decoders[1]", ["argmax", "max"], f"one of {', '.join(DECODERS)}"),
        ("models.baseline.learning_rate", 0, "above 0"),
        ("models.baseline.learning_rate", -0.1, "above 0"),
        ("models.baseline.learning_rate", float("inf"), "a finite number"),
        ("models.baseline.learning_rate", float("nan"), "a finite number"),
        ("models.baseline.learning_rate", "1e-4", "a number (YAML reads numbers such as 1e-4 as text: write 1.0e-4)"),
        ("recipe", "slow", f"one of {', '.join(RAW['recipes'])}"),
        ("recipes.fast.widths", [32], "2 or more entries"),
        ("recipes.fast.widths[1]", [32, 0], "1 or more"),
        ("recipes.fast.epochs", 0, "1 or more"),
        ("recipes.fast.epochs", 1.5, "a whole number"),
        ("recipes.fast.batch_size", 1, "a whole number from 2: batch normalisation needs it"),
        ("recipes.fast.sizes", [], "1 or more entries"),
        ("recipes.fast.sizes[1]", [48, 45], "a multiple of 2"),
        ("recipes.fast.sizes[0]", [6], "8 or more"),
        ("recipes.fast.momentum", 1.0, "between 0 and 1"),
        ("recipes.fast.momentum", 0, "between 0 and 1"),
        ("recipes.fast.weight_decay", -0.1, "0 or more"),
        ("recipes.fast.warmup", 1, "from 0 to below 1"),
        ("recipes.fast.ema_decay", 1.0, "from 0 to below 1"),
        ("recipes.fast.self_distillation", 1.0, "from 0 to below 1"),
        ("recipes.fast.self_distillation", -0.1, "from 0 to below 1"),
        ("recipes.fast.augment.rotation", -1.0, "0 or more"),
        ("recipes.fast.augment.zoom", -0.1, "0 or more"),
        ("recipes.fast.augment.shift", -0.1, "0 or more"),
        ("recipes.fast.augment.brightness", float("inf"), "a finite number"),
        ("recipes.fast.augment.contrast", -0.1, "0 or more"),
        ("recipes.fast.augment.cutout", 1, "from 0 to below 1"),
        ("machine.precision", "fp16", "'auto', 'fp32' or 'bf16'"),
        ("machine.precision", 32, "'auto', 'fp32' or 'bf16'"),
        ("machine.memory_format", "nhwc", "'auto', 'channels_last' or 'contiguous'"),
        ("machine.threads", 0, "auto or a whole number from 1"),
        ("machine.threads", -2, "auto or a whole number from 1"),
        ("machine.threads", "2", "auto or a whole number from 1"),
        ("machine.threads", "all", "auto or a whole number from 1"),
        ("machine.threads", 1.5, "auto or a whole number from 1"),
        ("machine.threads", [2], "auto or a whole number from 1"),
        ("machine.compile", "yes", "true or false"),
        ("machine.compile", 1, "true or false"),
        ("search.start", 0, "above 0"),
        ("search.start", -0.1, "above 0"),
        ("search.start", float("inf"), "a finite number"),
        ("search.factor", 1.4, "1.5 or more"),
        ("search.trials", 0, "from 1 to 20"),
        ("search.trials", 21, "from 1 to 20"),
        ("search.trials", 2.5, "a whole number"),
        ("search.epochs", 0, "1 or more"),
        ("search.finalists", 0, "a whole number from 1 to search.trials"),
        ("search.finalists", 6, "a whole number from 1 to search.trials"),
        ("search.seed", -1, "0 or more"),
        ("evaluate.heat_maps", 1, "2 or more"),
        ("evaluate.class_mean_faces", 7, "a whole number from 8: a mean of few faces shows a person"),
        ("compare.baseline", "base", f"one of grid.models, {', '.join(RAW['grid']['models'])}"),
        ("compare.resamples", 99, "100 or more"),
    ],
)
def test_an_impossible_value_is_named_with_the_rule(tmp_path: Path, key: str, value: Any, rule: str) -> None:
    """A key may end in the place of the entry that is wrong in a list."""
    name, _, index = key.removesuffix("]").partition("[")
    message = refusal(tmp_path, changed(name, value))
    shown = value[int(index)] if index else value
    must = "have" if rule.endswith("entries") else "be"
    assert message == f"params.yaml: '{key}' is {shown!r}, but must {must} {rule}."


def test_an_archive_needs_a_path(tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("data.source", "archive"))
    assert message == "params.yaml: 'data.path' is '', but must be the path of your copy of FER-2013."


def test_the_baseline_must_be_trained(tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("grid.models", ["w2v_cosine"]))
    assert message == ("params.yaml: 'compare.baseline' is 'baseline', but must be one of grid.models, w2v_cosine.")


@pytest.mark.parametrize("words", [{label: label for label in LABELS[:-1]}, dict.fromkeys([*LABELS, "calm"], "a")])
def test_words_are_given_for_exactly_the_labels(tmp_path: Path, words: dict[str, str]) -> None:
    message = refusal(tmp_path, changed(WORDS, words))
    assert message == (
        f"params.yaml: '{WORDS}' has the keys {list(words)}, but must have exactly the labels {', '.join(LABELS)}."
    )


@pytest.mark.parametrize(("section", "entry"), [("models", "baseline"), ("labels", "word2vec")])
@pytest.mark.parametrize("name", ["w2v-cosine", "w2v.cosine", "a@b", "a=b", "a/b", "a b", "감정", "_", ""])
def test_names_are_fit_for_files_and_keys(tmp_path: Path, section: str, entry: str, name: str) -> None:
    message = refusal(tmp_path, changed(section, {**RAW[section], name: RAW[section][entry]}))
    assert message == (f"params.yaml: '{section}.{name}' must be named with letters, digits and _ only.")


@pytest.mark.parametrize("name", SOURCES)
def test_a_set_of_words_is_not_named_like_targets_made_of_no_words(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, changed("labels", {**RAW["labels"], name: RAW["labels"]["word2vec"]}))
    assert message == (f"params.yaml: 'labels.{name}' must have another name ({', '.join(SOURCES)} are reserved).")


@pytest.mark.parametrize("targets", names(RAW["labels"]))
def test_targets_are_every_source_and_every_change_of_it(tmp_path: Path, targets: str) -> None:
    raw = changed("models.w2v_cosine.targets", targets)
    raw["models"]["baseline"]["decoders"] = [f"crm.{targets}"]
    params = load(tmp_path, raw)
    assert params.model("w2v_cosine").targets == targets
    assert params.model("baseline").decoders == (f"crm.{targets}",)


@pytest.mark.parametrize(
    "targets",
    [
        "word2vec.whitend", "word2vec.", ".whitened", "word2vec.centred.permuted", "word2vec permuted",
        "Word2vec", "onehot", "",
    ],
)  # fmt: skip
def test_unknown_targets_are_refused_with_the_known_ones(tmp_path: Path, targets: str) -> None:
    message = refusal(tmp_path, changed("models.w2v_cosine.targets", targets))
    known = ", ".join(names(RAW["labels"]))
    assert message == (f"params.yaml: 'models.w2v_cosine.targets' is '{targets}', but must be one of {known}.")


def test_targets_of_a_set_of_words_that_is_gone_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("labels.nouns", REMOVED))
    assert message.startswith(
        "params.yaml: 'models.w2v_nouns.targets' is 'nouns', but must be one of word2vec, glove, "
    )


@pytest.mark.parametrize("decoder", ["crm", "crm.", "crm.w2v", "crm.word2vec.whitend", "crm.crm.word2vec"])
def test_costs_are_those_of_known_targets(tmp_path: Path, decoder: str) -> None:
    message = refusal(tmp_path, changed("models.baseline.decoders", ["argmax", decoder]))
    assert message == (
        f"params.yaml: 'models.baseline.decoders[1]' is '{decoder}', but must be followed by a dot and targets, "
        "such as crm.word2vec."
    )


@pytest.mark.parametrize(
    "decoder", ["argmax.", "argmax.word2vec", "argmax.something", "nearest.word2vec", "nearest.", "inverse.word2vec"]
)
def test_decoders_that_weigh_nothing_stand_alone(tmp_path: Path, decoder: str) -> None:
    message = refusal(tmp_path, changed("models.w2v_cosine.decoders", [decoder]))
    rule = decoder.partition(".")[0]
    assert message == (
        f"params.yaml: 'models.w2v_cosine.decoders[0]' is '{decoder}', but must be {rule} with nothing after it."
    )


def with_decoder(loss: str, decoder: str) -> dict[str, Any]:
    """The parameters with a model of that loss that uses the decoder beside arg-max."""
    raw = changed("models.baseline.loss", loss)
    raw["models"]["baseline"] |= {"options": {}, "decoders": ["argmax", decoder]}
    return raw


def test_costs_weigh_the_probabilities_of_losses_that_train_some(tmp_path: Path) -> None:
    accepted = []
    for loss in LOSSES:
        raw = with_decoder(loss, "crm.word2vec.centred")
        if LOSSES[loss].probabilistic:
            assert load(tmp_path, raw).model("baseline").decoders == ("argmax", "crm.word2vec.centred")
            accepted.append(loss)
        else:
            assert refusal(tmp_path, raw) == (
                "params.yaml: 'models.baseline.decoders[1]' is crm.word2vec.centred, which needs "
                f"probabilities, but the loss {loss} trains none: choose another decoder or another loss."
            )
    assert {"cross_entropy", "scaled_cosine", "cosine_and_cross_entropy", "soft_labels"} <= set(accepted) < set(LOSSES)


@pytest.mark.parametrize("decoder", ["nearest", "inverse"])
def test_vectors_are_compared_for_losses_whose_network_answers_with_one(tmp_path: Path, decoder: str) -> None:
    refused = []
    for loss in LOSSES:
        raw = with_decoder(loss, decoder)
        if issubclass(LOSSES[loss], EmbeddingLoss):
            assert load(tmp_path, raw).model("baseline").decoders == ("argmax", decoder)
        else:
            assert refusal(tmp_path, raw) == (
                f"params.yaml: 'models.baseline.decoders[1]' is {decoder}, which compares the output with label "
                f"vectors, but with the loss {loss} the network outputs one number per class: "
                "choose another decoder."
            )
            refused.append(loss)
    assert {"cross_entropy", "soft_labels"} <= set(refused) < set(LOSSES)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("w2v_softmax.targets", "human", "human"),
        ("w2v_softmax.targets", "human.permuted", "human.permuted"),
        ("baseline.decoders", ["argmax", "crm.human"], "crm.human"),
        ("baseline.decoders", ["crm.human.centred", "argmax"], "crm.human.centred"),
    ],
)
def test_what_is_made_of_votes_needs_them_before_a_training_not_after(
    tmp_path: Path, key: str, value: Any, named: str
) -> None:
    raw = changed(f"models.{key}", value)
    model = key.partition(".")[0]
    raw["grid"]["models"] = list({"baseline": None, model: None})
    load(tmp_path, raw)  # drawn faces bring their own
    raw["data"] |= {"source": "kaggle"}
    assert refusal(tmp_path, raw) == (
        f"params.yaml: 'models.{model}' names {named}, which is made of FER+ votes, but 'data.votes' is empty: "
        "set it or take the model out of grid.models."
    )
    raw["data"] |= {"source": "archive", "path": "fer2013.csv", "votes": "fer2013new.csv"}
    load(tmp_path, raw)


def test_models_outside_the_grid_may_need_votes_that_are_not_there(tmp_path: Path) -> None:
    raw = changed("data.source", "kaggle")
    raw["grid"]["models"] = ["baseline"]
    assert load(tmp_path, raw).model("cosine_human").targets == "human"


@pytest.mark.parametrize(
    ("model", "option", "value", "rule"),
    [
        ("baseline", "label_smoothing", "1e-1", "a number (YAML reads numbers such as 1e-4 as text"),
        ("w2v_softmax", "scale", True, "a number"),
        ("w2v_softmax", "scale", float("inf"), "a finite number"),
    ],
)
def test_an_option_has_the_type_that_the_loss_gives_it(
    tmp_path: Path, model: str, option: str, value: Any, rule: str
) -> None:
    message = refusal(tmp_path, changed(f"models.{model}.options", {option: value}))
    assert message.startswith(f"params.yaml: 'models.{model}.options.{option}' is {value!r}, but must be {rule}")


@pytest.mark.parametrize(
    ("model", "option", "known"),
    [
        ("baseline", "smoothing", "the loss cross_entropy, which has label_smoothing"),
        ("baseline", "targets", "the loss cross_entropy, which has label_smoothing"),
        ("w2v_cosine", "scale", "the loss cosine, which has no options"),
    ],
)
def test_an_option_that_the_loss_lacks_is_named(tmp_path: Path, model: str, option: str, known: str) -> None:
    message = refusal(tmp_path, changed(f"models.{model}.options", {option: 0.1}))
    assert message == f"params.yaml: 'models.{model}.options.{option}' is not an option of {known}."


@pytest.mark.parametrize(
    ("model", "option", "value", "rule"),
    [
        ("baseline", "label_smoothing", 1.0, "from 0 to below 1"),
        ("baseline", "label_smoothing", -0.1, "from 0 to below 1"),
        ("w2v_softmax", "scale", -1.0, "above 0"),
        ("w2v_softmax", "scale", 0, "above 0"),
        ("w2v_cosine_ce", "weight", 0, "above 0"),
        ("w2v_hinge", "margin", -0.1, "above 0"),
        ("w2v_soft_labels", "sharpness", 0, "above 0"),
        ("w2v_softmax", "scale", math.nan, "a finite number"),
        ("rul", "dimensions", 0, "from 1 to 1,024"),
        ("scn", "margin", 1.0, "from 0 to below 1"),
        ("scn", "share", 0.0, "between 0 and 1"),
    ],
)
def test_an_option_that_the_loss_refuses_is_named(
    tmp_path: Path, model: str, option: str, value: float, rule: str
) -> None:
    message = refusal(tmp_path, changed(f"models.{model}.options", {option: value}))
    assert message == f"params.yaml: 'models.{model}.options.{option}' is {value}, but must be {rule}."


def test_targets_that_a_loss_would_ignore_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("models.baseline.targets", "word2vec"))
    assert message == (
        "params.yaml: 'models.baseline.targets' is 'word2vec', but must be one_hot, because the loss "
        "cross_entropy uses no targets."
    )


def test_an_option_without_a_default_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Demanding(EmbeddingLoss):
        targets: torch.Tensor
        strength: float

    monkeypatch.setitem(LOSSES, "demanding", Demanding)
    message = refusal(tmp_path, changed("models.w2v_cosine.loss", "demanding"))
    assert "'models.w2v_cosine.options' do not fit the loss" in message
    assert "'strength'" in message


def test_whole_numbers_pass_as_numbers(tmp_path: Path) -> None:
    rate = load(tmp_path, changed("models.w2v_cosine.learning_rate", 2)).models["w2v_cosine"].learning_rate
    assert (rate, type(rate)) == (2.0, float)


@pytest.mark.parametrize("threads", ["auto", 1, 64])
def test_threads_are_measured_or_a_number(tmp_path: Path, threads: str | int) -> None:
    assert load(tmp_path, changed("machine.threads", threads)).machine.threads == threads


def test_a_recipe_does_not_say_how_to_compute(tmp_path: Path) -> None:
    """Precision was a recipe's once: an old file is refused, not half obeyed."""
    message = refusal(tmp_path, changed("recipes.fast.precision", "bf16"))
    assert message.startswith("params.yaml: Unknown key 'recipes.fast.precision'. Valid keys: widths, ")


@pytest.mark.parametrize("words", ["very happy", ["happy", "joyful"]])
def test_a_label_may_have_several_words(tmp_path: Path, words: str | list[str]) -> None:
    labels = load(tmp_path, changed(f"{WORDS}.happy", words)).labels
    assert labels["word2vec"].words["happy"] == words


@pytest.mark.parametrize("text", ["", "just text", "- 1\n- 2"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == (
        f"params.yaml: the whole file is {yaml.safe_load(text)!r}, but must be a mapping of keys to values."
    )


def test_broken_yaml_is_refused_with_its_place(tmp_path: Path) -> None:
    message = refusal(tmp_path, "data:\n  source: [synthetic\nlabels: {}\n")
    assert "is not valid YAML" in message
    assert "line 3" in message


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("recipe: größer".encode("latin-1"))
    with pytest.raises(UserError, match=r"params\.yaml is not UTF-8"):
        config.load(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: run stages from the repository's root"):
        config.load(tmp_path / "params.yaml")


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = PARAMS.read_text(encoding="utf-8") + "\nrecipe: fast\n"
    with pytest.raises(UserError, match=r"line \d+: the key 'recipe' occurs twice"):
        load(tmp_path, text)


ODD_YAML = {
    "a date that is none": ("2001-99-99", "timestamp"),
    "a tag on what it does not suit": ("!!int abc", "int"),
    "an empty number": ("!!float ''", "float"),
    "a truth that is none": ("!!bool x", "bool"),
    "a list as a key": ("{[1, 2]: 3}", "a key must be a word"),
    "a mapping as a key": ("{{a: 1}: 2}", "a key must be a word"),
    "more digits than a float has": ("9" * 400, "digits"),
    "more digits than Python converts": ("9" * 5000, "digits"),
    "the same in hexadecimal": ("0x" + "f" * 6000, "digits"),
    "Python objects": ("!!python/object/apply:os.system ['true']", "constructor"),
    "an alias of itself": ("&a [*a]", "alias"),
    "an alias in its own key": ("&a {b: *a}", "alias"),
    "five hundred lists": ("[" * 500 + "]" * 500, "nested too deeply"),
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_odd_yaml_is_one_sentence(name: str) -> None:
    odd, words = ODD_YAML[name]
    text = PARAMS.read_text(encoding="utf-8")
    with pytest.raises(UserError, match=words) as raised:
        config.parse(text.replace("recipe: fast", f"recipe: {odd}"))
    assert str(raised.value).startswith("params.yaml")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_do_not_fill_the_memory(merged: bool) -> None:
    """A few lines stand for 3 to the 30th values. Shown in a message, or merged, they would take all there is."""
    line = "x{}: &x{} {{<<: [*x{}, *x{}, *x{}]}}" if merged else "x{}: &x{} [*x{}, *x{}, *x{}]"
    lines = ["x0: &x0 {a: 1}", *(line.format(n, n, n - 1, n - 1, n - 1) for n in range(1, 31))]
    with pytest.raises(UserError, match="aliases"):
        config.parse("\n".join([*lines, "data: *x30"]))


def test_aliases_of_ordinary_size_are_read() -> None:
    text = PARAMS.read_text(encoding="utf-8").replace("recipe: fast", "recipe: &chosen fast")
    first, second = text.split("\nsearch:")
    assert config.parse(f"{first}\nsearch:{second}") == config.parse(PARAMS.read_text(encoding="utf-8"))
    shared = first.replace("seeds:\n    - 0", "seeds: &seeds [0]")
    assert config.parse(f"{shared}\nsearch:{second}").grid.seeds == (0,)


@pytest.mark.parametrize("key", ["data.path", "data.votes", "labels.glove.vectors"])
@pytest.mark.parametrize(
    "path", ["x" * 300, "x/" * 3000, "a\0b", "~nobody-of-this-name/fer2013.csv", "\udc80\ud800", "{circle}"]
)
def test_what_cannot_be_a_path_is_refused_with_its_key(key: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    raw = changed(key, path.replace("{circle}", str(tmp_path / "circle")))
    raw["data"] |= {"source": "archive", "path": raw["data"]["path"] or "fer2013.csv"}
    with pytest.raises(UserError, match=f"^params.yaml: '{key}' (cannot be used: |is .*, but must be a path)"):
        config.parse(yaml.safe_dump(raw))


@pytest.mark.parametrize("labels", ["noisy20", "given.noisy", "given.noisy91", "votes20"])
def test_labels_that_do_not_exist_are_refused(tmp_path: Path, labels: str) -> None:
    message = refusal(tmp_path, changed("models.baseline.labels", labels))
    assert message.startswith(f"params.yaml: 'models.baseline.labels' is '{labels}', but must be one of ")
    assert "votes, votes.drawn, majority, given.noisy<1 to 90>, " in message


@pytest.mark.parametrize("labels", ["votes", "given.weighted", "given.balanced"])
def test_soft_labels_and_weights_need_a_loss_that_takes_them(tmp_path: Path, labels: str) -> None:
    message = refusal(tmp_path, changed("models.original_first.labels", labels))
    assert f"'models.original_first.labels' is {labels}, but the loss original_first takes one label" in message


def test_labels_of_votes_need_votes(tmp_path: Path) -> None:
    archive = tmp_path / "fer2013.csv"
    archive.touch()
    values = changed("data.source", "archive")
    values["data"] |= {"path": str(archive), "votes": ""}
    values["grid"]["models"] = ["baseline", "ldl_votes"]
    message = refusal(tmp_path, values)
    assert "'models.ldl_votes' names votes, which is made of FER+ votes, but 'data.votes' is empty" in message


@pytest.mark.parametrize(
    ("key", "choice", "sentence"),
    [
        ("mix", {"share": 0.5}, ".kind' is missing."),
        ("mix", {"kind": "cutmx"}, ".kind' is 'cutmx', but must be one of "),
        ("mix", {"kind": ["cutmix"]}, ".kind' is ['cutmix'], but must be one of "),
        ("policy", {"kind": {"autoaugment": {}}}, ".kind' is {'autoaugment': {}}, but must be one of "),
        ("mix", {"kind": "cutmix", "shar": 0.5}, ".shar' is not an option of mix cutmix, which has share, alpha."),
        ("mix", {"kind": "mixup", "alpha": "1"}, ".alpha' is '1', but must be a number"),
        ("mix", {"kind": "mixup", "share": 1.5}, ".share' is 1.5, but must be from 0 to 1."),
        ("mix", "cutmix", "' is 'cutmix', but must be a mapping of keys to values."),
        ("consistency", {"kind": "flip_maps", "erase": "all"}, ".erase' is 'all', but must be"),
        ("consistency", {"kind": "flip_maps", "weight": -1.0}, ".weight' is -1.0, but must be 0 or more."),
        ("consistency", {"kind": "scale_maps", "weight": math.nan}, ".weight' is nan, but must be"),
        ("memory", {"kind": "relabel", "start": 2.0}, ".start' is 2.0, but must be from 0 to 1."),
        ("memory", {"kind": "relabel", "margin": -0.1}, ".margin' is -0.1, but must be from 0 to 1."),
        ("memory", {"kind": "small_loss", "dropped": 1.0}, ".dropped' is 1.0, but must be from 0 to below 1."),
        ("memory", {"kind": "neighbours", "weight": 1.1}, ".weight' is 1.1, but must be from 0 to 1."),
        ("mix", {"kind": "cutmix", "share": -0.1}, ".share' is -0.1, but must be from 0 to 1."),
        ("distillation", {"kind": "teachers", "temperature": 0.0}, ".temperature' is 0.0, but must be above 0."),
        ("mix", {"kind": "cutmix", "alpha": 0.0}, ".alpha' is 0.0, but must be above 0."),
        ("policy", {"kind": "autoaugment", "policy": "mnist"}, ".policy' is 'mnist', but must be"),
        ("policy", {"kind": "autoaugment", "instead": 1}, ".instead' is 1, but must be true or false."),
        ("pool", "min", "' is 'min', but must be"),
        ("distillation", {"kind": "teacher"}, ".kind' is 'teacher', but must be"),
        ("distillation", {"kind": "teachers", "weight": 0.0}, ".weight' is 0.0, but must be above 0 and at most 1."),
        ("epoch_factor", 0, "' is 0, but must be from 1 to 100."),
        ("self_distillation", 1.0, "' is 1.0, but must be from 0 to below 1."),
    ],
)
def test_a_choice_that_does_not_exist_is_named(tmp_path: Path, key: str, choice: Any, sentence: str) -> None:
    message = refusal(tmp_path, changed(f"models.baseline.{key}", choice))
    assert message.startswith(f"params.yaml: 'models.baseline.{key}")
    assert sentence in message


@pytest.mark.parametrize(
    ("model", "option", "value", "rule"),
    [("hog", "C", 0.0, "above 0"), ("hog_boost", "stumps", 0, "1 or more"), ("geometry", "gamma", -1.0, "above 0")],
)
def test_impossible_options_of_a_classifier_are_refused(
    tmp_path: Path, model: str, option: str, value: float, rule: str
) -> None:
    message = refusal(tmp_path, changed(f"models.{model}.options.{option}", value))
    assert message == f"params.yaml: 'models.{model}.options.{option}' is {value}, but must be {rule}."


@pytest.mark.parametrize(
    ("model", "changes", "named", "sentence"),
    [
        ("w2v_cosine", {"consistency": {"kind": "flip_maps"}}, "consistency", "the network outputs a vector"),
        ("original_first", {"mix": {"kind": "cutmix"}}, "mix", "takes one label per image"),
        ("original_first", {"memory": {"kind": "small_loss"}}, "memory", "takes one label per image"),
        ("baseline", {"mix": {"kind": "mixup"}, "memory": {"kind": "relabel"}}, "memory", "mix shows it mixed images"),
        ("few100", {"memory": {"kind": "relabel"}}, "memory", "the labels given.few100 leave some out"),
        ("drop_votes", {"memory": {"kind": "small_loss"}}, "memory", "the labels given.certain leave some out"),
        ("ldl_votes", {"memory": {"kind": "relabel"}}, "memory", "the labels votes are distributions"),
        ("ldl_drawn", {"memory": {"kind": "relabel"}}, "memory", "the labels votes.drawn are distributions"),
        ("ldl_votes", {"memory": {"kind": "small_loss"}}, "memory", "the labels votes are distributions"),
        ("rul", {"decoders": ["crm.word2vec"]}, "decoders[0]", "needs probabilities"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(
    tmp_path: Path, model: str, changes: dict[str, Any], named: str, sentence: str
) -> None:
    values = copy.deepcopy(RAW)
    values["models"][model] |= changes
    message = refusal(tmp_path, values)
    assert message.startswith(f"params.yaml: 'models.{model}.{named}'")
    assert sentence in message


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("recipes.fast.self_distillation", 0.8, "models.cutmix.self_distillation"),
        ("models.cutmix.self_distillation", 0.8, "models.cutmix.self_distillation"),
        ("recipes.fast.augment.cutout", 0.2, "recipes.fast.augment.cutout"),
    ],
)
def test_cutmix_is_refused_where_another_choice_gets_in_its_way(
    tmp_path: Path, key: str, value: float, remedy: str
) -> None:
    values = changed(key, value)
    refused = copy.deepcopy(values)
    refused["grid"]["models"] = ["baseline", "cutmix"]
    message = refusal(tmp_path, refused)
    assert message.startswith("params.yaml: 'models.cutmix.mix'")
    assert f"set {remedy} to 0.0" in message
    config.parse(yaml.safe_dump(values))  # of no account to other models
    *above, last = remedy.split(".")
    corrected: Any = refused
    for name in above:
        corrected = corrected[name]
    corrected[last] = 0.0
    config.parse(yaml.safe_dump(refused))


def test_a_model_may_train_longer_than_the_recipe() -> None:
    params = config.load(PARAMS)
    fast = params.chosen_recipe
    assert params.recipe_of("baseline") == fast
    assert params.recipe_of("twice_the_epochs") == dataclasses.replace(fast, epochs=2 * fast.epochs)


OWN = ("calm", "happily surprised", "슬픔")


def own(**data: Any) -> dict[str, Any]:
    """A folder of pictures of other classes, with words for one set."""
    raw = changed("data", {**RAW["data"], "source": "folder", "path": "faces", "labels": list(OWN), **data})
    raw["labels"]["word2vec"]["words"] = {"calm": "calm", "happily surprised": ["happy", "surprised"], "슬픔": "sad"}
    return raw


def test_a_folder_of_pictures_has_classes_of_its_own(tmp_path: Path) -> None:
    params = load(tmp_path, own())
    assert params.data.classes == OWN
    assert list(params.word_sets(OWN)) == ["word2vec"]  # the others are FER-2013's, and nothing uses them
    assert load(tmp_path, own(labels=[])).data.classes is None


@pytest.mark.parametrize("key", ["data.labels", "data.split"])
def test_without_the_keys_nothing_changes(tmp_path: Path, key: str) -> None:
    params = load(tmp_path, changed(key, REMOVED))
    assert params == load(tmp_path, RAW)
    assert params.data.classes == LABELS


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["calm"], "'data.labels' has 1, but must have from 2 to 32 entries"),
        ([f"x{k}" for k in range(33)], "'data.labels' has 33, but must have from 2 to 32 entries"),
        (["calm", "a/b"], "'data.labels[1]' is 'a/b', but must be a name without"),
        (["calm", ".hidden"], "'data.labels[1]' is '.hidden', but must be a name that begins with a letter"),
        (["calm", "test"], "'data.labels[1]' is 'test', but must be another name: this one stands for a split"),
        (["calm", "index"], "'data.labels[1]' is 'index', but must be another name: the predictions have"),
        (["calm", True], "'data.labels[1]' is True, but must be text (in quotes, if it is a name)"),
        (["calm", 7], "'data.labels[1]' is 7, but must be text (in quotes, if it is a name)"),
        (["calm", "Calm"], "'data.labels' has 'calm' and 'Calm', which differ only in case, or not at all in MLflow"),
        (["a+b", "a&b"], "'data.labels' has 'a+b' and 'a&b', which differ only in case, or not at all in MLflow"),
        ("calm, cross", "'data.labels' is 'calm, cross', but must be a list"),
    ],
)
def test_what_cannot_name_classes_is_refused(tmp_path: Path, labels: Any, what: str) -> None:
    message = refusal(tmp_path, own(labels=labels))
    assert message.startswith(f"params.yaml: {what}")


@pytest.mark.parametrize("source", ["synthetic", "archive", "kaggle"])
def test_other_sources_have_the_seven_alone(tmp_path: Path, source: str) -> None:
    raw = changed("data.labels", list(LABELS))
    raw["data"] |= {"source": source, "path": "fer2013.csv"}
    if source != "synthetic":
        raw["grid"]["models"] = ["baseline"]
    assert load(tmp_path, raw).data.classes == LABELS
    for labels in (LABELS[::-1], LABELS[:6], OWN):
        raw["data"]["labels"] = list(labels)
        assert refusal(tmp_path, raw) == (
            f"params.yaml: 'data.labels' must be empty or FER-2013's seven in their order ({', '.join(LABELS)}) unless "
            "data.source is folder."
        )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"path": ""}, "'data.path' is '', but must be the path of a folder of pictures."),
        ({"votes": "v.csv"}, "'data.votes' is 'v.csv', but must be empty for a folder of pictures"),
        ({"expect": "fer2013"}, "'data.expect' is 'fer2013', but must be any for a folder of pictures"),
    ],
)
def test_what_a_folder_of_pictures_cannot_have_is_refused(tmp_path: Path, data: dict[str, Any], what: str) -> None:
    assert refusal(tmp_path, own(**data)).startswith(f"params.yaml: {what}")


def test_words_are_given_for_exactly_the_classes(tmp_path: Path) -> None:
    raw = own()
    words = raw["labels"]["word2vec"].pop("words")
    raw["labels"]["word2vec"]["words"] = {**words, "cross": "mad"}
    keys = [*words, "cross"]
    expected = f"'labels.word2vec.words' has the keys {keys}, but must have exactly the labels {', '.join(OWN)}"
    assert refusal(tmp_path, raw) == f"params.yaml: {expected}."
    raw["data"]["labels"] = []  # then only the folder can tell
    with pytest.raises(UserError) as error:
        load(tmp_path, raw).word_sets(OWN)
    assert str(error.value) == f"params.yaml: {expected}, which are those of the data."


def test_fer2013s_words_are_refused_where_a_model_of_the_grid_uses_them(tmp_path: Path) -> None:
    raw = own()
    raw["grid"]["models"] = ["baseline", "w2v_nouns"]
    assert refusal(tmp_path, raw).startswith("params.yaml: 'labels.nouns.words' has the keys ['angry', ")
    raw = own()
    raw["models"]["baseline"]["decoders"] = ["argmax", "crm.glove.centred"]
    assert refusal(tmp_path, raw).startswith("params.yaml: 'labels.glove.words' has the keys ['angry', ")
    raw = own()
    del raw["labels"]["nouns"]["words"]["angry"]  # of neither
    assert refusal(tmp_path, raw).startswith("params.yaml: 'labels.nouns.words' has the keys ['disgust', ")


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("cosine_affective", "affective, which is known for FER-2013's classes alone"),
        ("cosine_human", "human, which is made of FER+ votes, but a folder of pictures has none"),
        ("ldl_votes", "votes, which is made of FER+ votes, but a folder of pictures has none"),
    ],
)
def test_what_needs_fer2013_is_refused_for_other_classes(tmp_path: Path, model: str, what: str) -> None:
    raw = own()
    raw["grid"]["models"] = ["baseline", model]
    assert refusal(tmp_path, raw) == (f"params.yaml: 'models.{model}' names {what}: take the model out of grid.models.")


def test_a_row_may_have_its_own_self_distillation_even_none(tmp_path: Path) -> None:
    params = config.load(PARAMS)
    assert params.recipe_of("baseline") == params.chosen_recipe
    assert "self_distillation" not in params.model("baseline").of_training  # or older runs would be made anew
    row = params.model("self_distillation")
    assert row.of_training["self_distillation"] == row.self_distillation == 0.8
    assert params.recipe_of("self_distillation") == dataclasses.replace(params.chosen_recipe, self_distillation=0.8)
    full = dataclasses.replace(params, recipe="full")
    off = dataclasses.replace(full, models=full.models | {"off": dataclasses.replace(row, self_distillation=0.0)})
    assert full.chosen_recipe.self_distillation > 0
    assert off.recipe_of("off").self_distillation == 0
    assert off.model("off").of_training["self_distillation"] == 0


def test_a_student_follows_its_teachers_or_itself_but_not_both(tmp_path: Path) -> None:
    both = changed("recipe", "full")
    both["grid"]["models"] = ["baseline", "student"]
    message = refusal(tmp_path, both)
    assert message.startswith("params.yaml: 'models.student.distillation' learns from teachers, but the recipe full")
    both["models"]["student"]["self_distillation"] = 0.0
    assert load(tmp_path, both).recipe_of("student").self_distillation == 0


@dataclass(frozen=True)
class Limited:
    """A choice whose option has its limits with the field."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5


def test_the_limits_of_an_option_are_those_of_its_field() -> None:
    hint = config.type_hints(Limited)["share"]
    schema.require(hint, 1.0, "share")
    with pytest.raises(PydanticCustomError, match="must be above 0 and at most 1"):
        schema.require(hint, 0.0, "share")


def test_every_pair_of_limits_has_its_words() -> None:
    """Or a field with limits that no other has would end in a traceback."""
    ends = ("gt", "ge", None), ("lt", "le", None)
    for lower, upper in ((lower, upper) for lower in ends[0] for upper in ends[1] if lower or upper):
        limits: dict[str, Any] = {name: value for name, value in ((lower, 1), (upper, 2)) if name}
        with pytest.raises(PydanticCustomError, match="must be"):
            schema.require(Annotated[float, Field(**limits)], 0.0 if lower else 3.0, "share")
