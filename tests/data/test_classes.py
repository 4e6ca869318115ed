"""What a class may be called: safe as a folder, in a CSV file, and as a key in MLflow."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from mlflow.utils.validation import validate_param_and_metric_name

from pipeline.data.classes import COLUMNS, LONGEST, SPLIT_NAMES, alike, folded, normal, rule, tracking_key
from pipeline.data.fer import LABELS, SPLITS
from pipeline.evaluation import predictions

GOOD = (
    *LABELS, "happily surprised", "wide-eyed", "Trauer", "émotion", "슬픔", "高兴", "😀", "a", "7", "it's, (so) & so",
    "Mr. X", "a$b$c", "x" * LONGEST,
)  # fmt: skip
BAD = (
    "", " ", " calm", "calm ", "calm.", ".calm", "..", "-calm", "=1+1", "+1", "@SUM(A1)", "a/b", "a\\b", "a:b", "a*b",
    "a?", 'a"b', "a<b", "a|b", "a\nb", "a\tb", "a\x00b", "\u202egpj", "\ufffd", "con", "NUL", "com1", "aux.x",
    "__MACOSX", "x" * (LONGEST + 1),
)  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_one_folder_one_field_and_a_key(name: str) -> None:
    assert rule(name) is None
    assert "/" not in name
    written = io.StringIO()
    csv.writer(written).writerow([name, "x"])
    assert next(csv.reader([written.getvalue()])) == [name, "x"]
    assert validate_param_and_metric_name(f"test.per_class.{tracking_key(name)}.recall")


@pytest.mark.parametrize("name", BAD)
def test_any_other_name_is_refused(name: str) -> None:
    assert rule(name) is not None


@pytest.mark.parametrize("name", [*SPLITS, *SPLIT_NAMES, "Test", *predictions.COLUMNS, "predicted", "Predicted_flip"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    must = rule(name)
    assert must is not None
    assert must.startswith("another name")


def test_the_predictions_have_no_column_that_a_class_may_take() -> None:
    assert {*predictions.COLUMNS, predictions.DECISION} == {*COLUMNS}


def test_keys_of_today_stay() -> None:
    for name in ("test.severity.human.all", "system/cpu_utilization", "baseline.crm.word2vec", "val_loss", "a-b c"):
        assert tracking_key(name) == name


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (["calm", "cross", "Calm"], ("calm", "Calm")),
        (["a+b", "c", "a&b"], ("a+b", "a&b")),
        (["Straße", "STRASSE"], ("Straße", "STRASSE")),
        (["é", unicodedata.normalize("NFD", "é")], ("é", unicodedata.normalize("NFD", "é"))),
        (["calm", "cross"], None),
        ([], None),
    ],
)
def test_names_that_would_meet_are_found(names: list[str], same: tuple[str, str] | None) -> None:
    assert alike(names) == same


def test_macos_spells_the_same_name() -> None:
    decomposed = unicodedata.normalize("NFD", "Ärger")
    assert decomposed != "Ärger"
    assert normal(decomposed) == "Ärger"
    assert folded(decomposed) == folded("äRGER")
