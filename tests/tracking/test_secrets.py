"""A password of the environment is in nothing that is printed, however it is written."""

from __future__ import annotations

import base64
import logging
from urllib.parse import quote, quote_plus

import pytest

from pipeline.tracking.secrets import Redacting, redact

PASSWORD = "p@ss/w#rd 1%"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("MLFLOW_TRACKING_URI", f"https://me:{quote(PASSWORD, safe='')}@host:5000", PASSWORD),
        ("MLFLOW_TRACKING_URI", "https://me:plain-pass@host/mlflow", "plain-pass"),
        ("MLFLOW_TRACKING_URI", "https://me:un#quoted@host/mlflow", "un#quoted"),
        ("MLFLOW_TRACKING_URI", "https://abc-token-only@host", "abc-token-only"),
        ("MLFLOW_TRACKING_URI", "https://host/mlflow?token=q-token&x=1", "q-token"),
        ("MLFLOW_TRACKING_URI", "postgresql://me:pg-pass@db:5432/mlflow?sslmode=require", "pg-pass"),
        ("MLFLOW_TRACKING_URI", "mysql+pymysql://me:my-pass@db/mlflow", "my-pass"),
        ("MLFLOW_TRACKING_URI", "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dodbc-pass%3B", "odbc-pass"),
        ("MLFLOW_REGISTRY_URI", "http://me:registry-pass@host", "registry-pass"),
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD, PASSWORD),
        ("MLFLOW_TRACKING_TOKEN", "eyJhbGciOi.J9", "eyJhbGciOi.J9"),
        ("AWS_SECRET_ACCESS_KEY", "aws/secret+key", "aws/secret+key"),
    ],
)
def test_a_secret_of_the_environment_is_hidden_in_every_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secret: str
) -> None:
    monkeypatch.setenv(name, value)
    forms = {
        secret, quote(secret, safe=""), quote(secret), quote_plus(secret), quote(secret, safe="").lower(),
        repr(secret)[1:-1], value, base64.b64encode(secret.encode()).decode(),
    }  # fmt: skip
    for form in forms:
        shown = redact(f"no answer from {form} after 3 tries")
        assert secret not in shown
        assert form not in shown, form
        assert shown.startswith("no answer from ")
        assert shown.endswith(" after 3 tries")


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@host/api",
        "connect to postgresql+psycopg2://me:hunter2@db:5432/x failed",
        "/api/2.0?token=hunter2 (Caused by",
        "connection to server with user=me password=hunter2 host=db failed",
        "{'Authorization': 'Basic hunter2hunter2=='}",
        "Bearer hunter2hunter2",
    ],
)
def test_what_looks_like_a_secret_is_hidden_without_being_known(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "***" in redact(text)


def test_an_ordinary_message_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////home/me/fer/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_TOKEN", "true")
    text = "unable to open /home/me/fer/mlflow.db (https://sqlalche.me/e/21/e3q8): true? see a=1 & http://127.0.0.1:9"
    assert redact(text) == text


def test_log_records_lose_secrets_of_message_and_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    try:
        raise ValueError("no host hunter22")
    except ValueError as error:
        record = logging.LogRecord(
            "mlflow", logging.ERROR, "", 0, "tried %s", ("hunter22",), (type(error), error, error.__traceback__)
        )
    assert Redacting().filter(record)
    shown = logging.Formatter().format(record)
    assert "hunter22" not in shown
    assert "ValueError" in shown
