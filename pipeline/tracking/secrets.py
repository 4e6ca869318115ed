"""Keep passwords and tokens out of everything that is printed."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

HIDDEN = "***"

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_ARTIFACTS_DESTINATION")
"""Environment variables whose values are addresses, which can contain a password."""

_NAME = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY$|CREDENTIAL", re.IGNORECASE)
"""Names of variables whose whole value is a secret."""

_PATTERNS = (
    (re.compile(r"(?<=://)[^/\s'\"?#]+@"), f"{HIDDEN}@"),  # user:password@
    (re.compile(r"([?&][\w.~%-]+=)[^&#\s'\")]+"), rf"\1{HIDDEN}"),  # ?token=...
    (
        re.compile(r"\b((?:password|passwd|pwd|token|secret|api_?key|sig|signature)=)[^\s;&'\")]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(Bearer|Basic) [\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
)
"""Forms of secrets that are not in the environment, as in an address that a server returns."""


def redact(text: str) -> str:
    """Replace every secret of the environment in `text`, in whatever encoding, with ***."""
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class Redacting(logging.Filter):
    """A filter that rewrites a log record, traceback included, before a handler prints it."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        record.msg, record.args, record.exc_info, record.exc_text = redact(text), (), None, None
        return True


def _secrets() -> Iterator[str]:
    """Return each secret of the environment in every form; of a short one, only its longest form."""
    for name, value in os.environ.items():
        if name in ADDRESSES:
            for secret in _of_address(value.strip()):
                yield from _forms(secret)
        elif _NAME.search(name) and value.lower() not in ("true", "false", "yes", "no"):  # as in ..._TOKEN_ENABLED
            yield from _forms(value)


def _of_address(address: str) -> Iterator[str]:
    """Return user, password and the values of the query: any of them may be a token."""
    # Not urlsplit's parts alone: a password with an unquoted # or / would end its host too early.
    found = re.match(r"[\w.+-]+://(.*)@", address)
    if found:
        yield found[1]
        user, colon, password = found[1].partition(":")
        yield password if colon else user
    try:
        query = urlsplit(address).query
    except ValueError:  # such as an unclosed [: nothing that MLflow could use
        return
    for pair in query.split("&"):
        yield pair.partition("=")[2]
    for _, value in parse_qsl(query):
        yield value
        # A driver's own settings may be packed into one value.
        yield from re.findall(r"(?:pwd|password)=([^;]+)", value, flags=re.IGNORECASE)


def _forms(secret: str) -> Iterator[str]:
    """Return a secret as written, decoded, URL-encoded, escaped for Python, and as sent in HTTP."""
    plain = unquote(secret)
    forms = {secret, plain, unquote_plus(secret), quote(plain), quote(plain, safe=""), quote_plus(plain)}
    forms |= {repr(plain)[1:-1], base64.b64encode(plain.encode()).decode()}
    yield from (form for form in forms if len(form) >= 3)
