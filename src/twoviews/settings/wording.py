"""What a value should have been, in one vocabulary; pydantic's own messages are for programmers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBER, _WHOLE, _SWITCH, _TEXT = "a number", "a whole number", "true or false", "text"
_GROUP = "settings, one per line"

# By pydantic's name of the error; in braces what it says of the limit.
_SHOULD_BE = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "finite_number": "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _SWITCH),
    **dict.fromkeys(("string_type", "string_unicode", "string_sub_type"), _TEXT),
    **dict.fromkeys(("path_type", "path_not_file", "path_not_directory"), "a path"),
    **dict.fromkeys(("tuple_type", "list_type", "iterable_type"), "a list of values"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _GROUP),
}


def should(error: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors (``ValidationError.errors()``)."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _SHOULD_BE:
        limits = {name: f"{value:.15g}" for name, value in context.items() if isinstance(value, (int, float))}
        return f"should be {_SHOULD_BE[kind].format(**limits)}"
    if kind == "literal_error":
        return f"should be one of {context['expected'].replace(' or ', ', ').replace(chr(39), '')}"
    if kind == "missing":
        return "has too few values" if error["loc"] and isinstance(error["loc"][-1], int) else "is missing"
    if kind == "too_long":
        return f"should be {context['max_length']} values"
    return str(error["msg"]).removeprefix("Value error, ")
