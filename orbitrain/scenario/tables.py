"""Tables of the files that users write: strict values, names, and complaints of one line.

Scenarios and node configurations are built of them. Every complaint is `field: what is allowed`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
NODE = r"^[a-z0-9][a-z0-9-]{0,63}$"
SHA256 = r"^[0-9a-f]{64}$"
TASK = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
CONGESTION = r"^[a-z0-9_]{1,15}$"

_FIELD = r"[\w.-]*(\[\d+\])*[\w.-]*: "
"""How a complaint begins that names a field below the table it is about."""

PATTERNS = {
    NAME: "1 to 40 lower-case letters, digits and hyphens, the first no hyphen",
    NODE: "1 to 64 lower-case letters, digits and hyphens, the first no hyphen",
    SHA256: "64 lower-case hexadecimal digits",
    TASK: "of the form package.module:Name",
    CONGESTION: "'auto' or a kernel's name for a congestion control, such as 'bbr' or 'cubic'",
}
"""What a pattern allows, in words."""

Name = Annotated[str, Field(pattern=NAME)]

NodeName = Annotated[str, Field(pattern=NODE)]
"""A name of a scenario, with what is appended to it: NAME-dev-0."""

Sha256 = Annotated[str, Field(pattern=SHA256)]


def shown(value: Any) -> str:
    """A value on one line, bounded."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def key_shown(name: str) -> str:
    """A key as it is, or quoted, on one line."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else shown(name)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def check_distinct(places: Sequence[tuple[str, str]], what: str) -> None:
    """`places` are (name, field). Raises ValueError that names the field of the second of two."""
    times = Counter(name for name, _ in places)
    seen = set()
    for name, field in places:
        if name in seen:
            raise ValueError(f"{field}: must differ, {name!r} is the name of {times[name]} {what}")
        seen.add(name)


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a validation, as `field: what is allowed`."""
    complaint = error.errors()[0]
    loc, kind = complaint["loc"], complaint["type"]
    path = ""
    for place, part in enumerate(loc):
        if _is_tag(model, loc, place):
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":  # pydantic's own mark of a key of a dict
            path += f".{key_shown(part)}" if path else key_shown(part)
    message = complaint["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"unknown key, allowed are {', '.join(sorted(_table_at(model, loc[:-1]).model_fields))}"
    elif kind == "missing":
        message = ", ".join(filter(None, ("is missing", _allowed(_field_at(model, loc)))))
    elif kind == "value_error":
        if path and re.match(_FIELD, message):  # it names a field of this table
            return path + ("" if message.startswith("[") else ".") + message
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        path += ".name"
        tags = " or ".join(repr(tag) for tag in _tagged(_annotation_at(model, loc)))
        found = complaint.get("ctx", {}).get("tag")
        message = f"must be {tags}, not {shown(found)}" if found else f"is missing, must be {tags}"
    elif kind == "string_pattern_mismatch":
        pattern = complaint["ctx"]["pattern"]
        message = f"must be {PATTERNS.get(pattern, f'like {pattern}')}, not {shown(complaint['input'])}"
    else:
        message = f"{_allowed(_field_at(model, loc)) or message}, not {shown(complaint['input'])}"
    return f"{path}: {message}" if path else message


def _table_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The table that a path of keys leads to."""
    owner: Any = model
    for part in loc:
        if isinstance(part, str):
            if part in (members := _tagged(owner)):
                owner = members[part]
                continue
            inner: Any = _without_none(owner.model_fields[part].annotation)
            owner = get_args(inner)[0] if get_origin(inner) is list else inner
    found: type[BaseModel] = owner
    return found


def _tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """The tables of a union of tables that their `name` tells apart, by that; empty for anything else."""
    tables = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    if len(tables) < 2:
        return {}
    return {get_args(table.model_fields["name"].annotation)[0]: table for table in tables}


def _annotation_at(model: type[BaseModel], loc: Sequence[int | str]) -> Any:
    field = _field_at(model, loc)
    return None if field is None else field.annotation


def _is_tag(model: type[BaseModel], loc: Sequence[int | str], place: int) -> bool:
    """Whether a part of a path only says which table of a union it goes through."""
    return loc[place] in _tagged(_annotation_at(model, loc[:place]))


def _without_none(annotation: Any) -> Any:
    """T of `T | None`, or what it is."""
    inner = [arg for arg in get_args(annotation) if arg is not type(None)]
    return inner[0] if type(None) in get_args(annotation) and len(inner) == 1 else annotation


def _field_at(model: type[BaseModel], loc: Sequence[int | str]) -> FieldInfo | None:
    """The field that a path of keys leads to; None for one inside a list or dict of plain values."""
    owner: Any = model
    field = None
    for part in loc:
        if isinstance(part, int):
            if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
                return None
            continue
        if part in (members := _tagged(owner)):
            owner = members[part]
            continue
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or part not in owner.model_fields:
            return None
        field = owner.model_fields[part]
        owner = _without_none(field.annotation)
        if get_origin(owner) is list:
            owner = get_args(owner)[0]
    return None if loc and isinstance(loc[-1], int) else field


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _allowed(field: FieldInfo | None) -> str:
    """`must be ...`, from a field's type and bounds; empty where they do not say."""
    if field is None:
        return ""
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return f"must be {' or '.join(repr(value) for value in get_args(annotation))}"
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "must be a table"
    if get_origin(annotation) is list:
        inner = get_args(annotation)[0]
        tables = isinstance(inner, type) and issubclass(inner, BaseModel)
        return f"must be a list of {'tables' if tables else 'strings'}, at least one"
    if annotation not in _KINDS:
        return ""
    bounds = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(part, name)
    }
    text = f"must be {_KINDS[annotation]}"
    if bounds.keys() == {"ge", "le"}:
        return f"{text} from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = " and ".join(f"{words[name]} {bounds[name]}" for name in words if name in bounds)
    return f"{text} {limits}" if limits else text
