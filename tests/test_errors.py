"""What a UserError says is one line that any terminal can show, whatever it quotes."""

from __future__ import annotations

import pytest

from pipeline.errors import MAX_MESSAGE, UserError


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("red \x1b[31m", r"red \x1b[31m"),
        ("\udc80.csv", r"\udc80.csv"),  # a byte of a name that is not UTF-8; print would fail
        ("\u202egpj.csv", r"\u202egpj.csv"),  # reads backwards
        ("é 张 😀", "é 张 😀"),
    ],
)
def test_what_cannot_be_shown_is_escaped(quoted: str, shown: str) -> None:
    message = str(UserError(f"{quoted} is no member: pack it again."))
    assert message == f"{shown} is no member: pack it again."
    message.encode("utf-8")


def test_a_long_name_does_not_hide_what_is_wrong_and_what_to_do() -> None:
    message = str(UserError(f"fer.zip holds the member {'x' * 100_000}, which is not safe: pack it again."))
    assert len(message) <= MAX_MESSAGE
    assert message.startswith("fer.zip holds the member xxx")
    assert message.endswith("xxx, which is not safe: pack it again.")
