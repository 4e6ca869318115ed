"""Read YAML into frozen dataclasses, checked by pydantic; report a problem in one sentence that names the key.

Limits are declared with the field: `Annotated[float, Field(gt=0, lt=1)]`. They are checked for what a user wrote, not
for objects that the code creates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, partial, reduce
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError, SchemaValidator, core_schema

from pipeline.errors import UserError

T = TypeVar("T")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Place = tuple[str | int, ...]

STRICT = core_schema.CoreConfig(strict=True, allow_inf_nan=False)
"""Reject "1" for 1, and infinity."""
MAX_VALUES = 100_000
"""Maximum number of values with all aliases expanded; the file in the repository has some hundreds."""
MAX_DIGITS = 300
"""Maximum digits of a number: nearly as many as the largest float has, and few enough to be shown."""
MAX_SHOWN = 200
"""Maximum characters of a key or a value in a message; a list of names may have three times as many."""
TOO_DEEP = " is nested too deeply: write it as in the repository."

RULES = {
    "bool_type": "be true or false",
    "dataclass_type": "be a mapping of keys to values",
    "dict_type": "be a mapping of keys to values",
    "finite_number": "be a finite number",
    "float_type": "be a number",
    "int_type": "be a whole number",
    "literal_error": "be {expected}",
    "multiple_of": "be a multiple of {multiple_of}",
    "rule": "be {rule}",
    "string_type": "be text",
    "too_short": "have {min_length} or more entries",
}
"""What a value must be or have, by pydantic's name of the error."""
RANGES = {
    ("gt", "lt"): "between {gt} and {lt}",
    ("ge", "lt"): "from {ge} to below {lt}",
    ("ge", "le"): "from {ge} to {le:,}",
    ("gt", "le"): "above {gt} and at most {le:,}",
    ("gt",): "above {gt}",
    ("ge",): "{ge} or more",
    ("lt",): "below {lt}",
    ("le",): "{le:,} or less",
}
"""Both ends are named, whichever of them the value exceeds."""


def parse(kind: type[T], text: str, where: str) -> T:
    """Parse `text`, the content of the file `where`, as `kind`: see `check`."""
    try:
        values = yaml.load(text, _Strict)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise UserError(f"{where}{TOO_DEEP}") from None
    return check(kind, values, where)


def check(kind: type[T], values: object, where: str) -> T:
    """Make `kind` of the values that YAML gave for the file `where`.

    Mappings become dataclasses, lists become tuples, and whole numbers become floats where floats are needed. Raises
    UserError naming the file and the key that is wrong.
    """
    try:
        return cast(T, _validator(cast(Any, kind)).validate_python(values))
    except ValidationError as error:
        place, sentence = _explained(error)
        what = f": {sentence.replace('{key}', _key(place), 1)}."
    except UserError as error:
        what = f": {error}"
    except RecursionError:
        what = TOO_DEEP
    raise UserError(f"{where}{what}")


def require(kind: Any, value: Any, *at: str | int) -> None:
    """Reject `value` in a validator unless it is of `kind`; `at` is its place below the validator's own."""
    try:
        _validator(kind).validate_python(value)
    except ValidationError as error:
        raise problem(_explained(error)[1], *at) from None


def require_one_of(value: Any, names: Collection[str], *at: str | int) -> None:
    """Reject `value` in a validator unless it is one of `names`; `at` is its place below the validator's own."""
    if not isinstance(value, str) or value not in names:
        raise wrong(f"one of {listed(names)}", *at)


def wrong(rule: str, *at: str | int) -> PydanticCustomError:
    """Return the error for a validator to raise if the value at `at`, below its own place, must be `rule` instead."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule, "at": at})


def problem(sentence: str, *at: str | int) -> PydanticCustomError:
    """Return an error like `wrong` with its own sentence, in which {key} stands for the key."""
    return PydanticCustomError("problem", "{sentence}", {"sentence": sentence, "at": at})


def must_be(rule: str) -> WrapValidator:
    """Return a validator that replaces all messages about the annotated type with one rule."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise wrong(rule) from None

    return WrapValidator(check)


def listed(names: Iterable[str]) -> str:
    """Join names with commas, shortened if there are many."""
    return _shortened(", ".join(names), 3 * MAX_SHOWN)


def quoted(value: Any) -> str:
    """Return the repr of a value, shortened if it is long."""
    return _shortened(repr(value), MAX_SHOWN)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]} [...] {text[-most // 4 :]}"


def _key(place: Place) -> str:
    """Format a place as a key: `'a.b[0]'` for ("a", "b", 0)."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"'{_shortened(key.removeprefix('.'), MAX_SHOWN)}'" if place else "the whole file"


def _explained(error: ValidationError) -> tuple[Place, str]:
    """Return the place of the first problem and the sentence about it, in which {key} stands for the key."""
    entry = error.errors(include_url=False)[0]
    name, context, value = entry["type"], entry.get("ctx", {}), entry["input"]
    at = context.get("at", ())
    place = (*entry["loc"], *at)
    if name == "missing":
        return place, "{key} is missing"
    if name == "problem":
        return place, context["sentence"]
    rule = RULES[name].format(**context)
    if place[-1:] == ("[key]",):
        return place[:-1], f"{{key}} must {rule}"
    if name == "string_type" and isinstance(value, bool | int | float):
        rule += " (in quotes, if it is a name)"
    if name == "float_type" and isinstance(value, str):
        rule += " (YAML reads numbers such as 1e-4 as text: write 1.0e-4)"
    return place, f"{{key}} is {quoted(reduce(lambda whole, part: whole[part], at, value))}, but must {rule}"


@cache
def _validator(kind: Any) -> SchemaValidator:
    return SchemaValidator(_of_yaml(TypeAdapter(kind).core_schema), STRICT)


def _of_yaml(schema: Any) -> Any:
    """Adapt pydantic's schema to YAML and to errors that state what is allowed.

    Strict pydantic would accept no mapping for a dataclass and no list for a tuple.
    """
    if isinstance(schema, list):
        return [_of_yaml(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: _of_yaml(part) for name, part in schema.items()}
    limits = {name: schema.pop(name) for name in ("gt", "ge", "lt", "le") if name in schema}
    if limits:
        return core_schema.no_info_after_validator_function(partial(_within, limits), schema)
    if schema.get("type") == "dataclass":
        schema |= {"strict": False, "config": schema.get("config", {}) | STRICT}  # which is that of its fields
        first, reference = partial(_without_unknown, schema["fields"]), schema.pop("ref", None)
        return core_schema.no_info_before_validator_function(first, schema, ref=reference)
    if schema.get("type") == "tuple":
        return core_schema.no_info_before_validator_function(_list, schema | {"strict": False})
    return schema


def _within(limits: Mapping[str, float], value: float) -> float:
    if not all(getattr(operator, name)(value, limit) for name, limit in limits.items()):
        raise wrong(RANGES[tuple(limits)].format(**limits))
    return value


def _without_unknown(fields: Collection[str], value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if name not in fields:
            raise problem(f"Unknown key {{key}}. Valid keys: {listed(fields)}", name)
    return value


def _list(value: Any) -> Any:
    if not isinstance(value, list):
        raise wrong("a list")
    return value


class _Strict(yaml.SafeLoader):
    """A YAML loader for settings: unique, plain keys, and a limit on expanded aliases.

    YAML itself silently keeps the last of two equal keys, and a few lines of aliases can stand for more values than
    memory holds.
    """

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        count, waiting = 0, [root] if root else []
        while waiting:
            node, count = waiting.pop(), count + 1
            if isinstance(node, yaml.CollectionNode):
                for part in node.value:
                    waiting += part if isinstance(part, tuple) else (part,)
            if count + len(waiting) > MAX_VALUES:
                raise _refused(f"aliases that stand for more than {MAX_VALUES:,} values", node)
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a key must be a word, not a list or a mapping", key)
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: the key {_key((key.value,))} occurs twice: keep one.")
            seen.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if isinstance(node, yaml.ScalarNode) and kind in ("int", "float") and len(node.value) > MAX_DIGITS:
            raise _refused("a number with too many digits", node)
        try:
            return super().construct_object(node, deep)
        # What its constructors let through for a date, a number or a tag that is none.
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise _refused(f"{str(node.value)[:40]!r} is not a valid {kind} ({error})", node) from None


def _refused(why: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, node.start_mark)
