"""Typed recipes: a TOML file and `a.b=c` overrides become one frozen pydantic model.

A recipe class is the documentation of its program's settings; there is no second place for defaults.
An unknown key, a value of the wrong type or an absent key is an `InputError` that names the key, and the
nearest valid one where a name was misspelt.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from spiritlm.errors import InputError


class Recipe(BaseModel):
    """Base of every recipe and of every table inside one: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


R = TypeVar("R", bound=Recipe)


def load_recipe(cls: type[R], path: str | Path | None, overrides: Iterable[str] = (), kind: str = "recipe") -> R:
    """Read `path` (TOML; None: nothing), apply `a.b=c` overrides in order, and validate as `cls`.

    Override values are TOML values; what is not valid TOML is taken as a string, so `name=slt` needs no quotes.
    `kind`: what messages call the file. Raises `InputError` for an unreadable file, a malformed override, an unknown,
    absent or mistyped key.
    """
    data, source = {}, "command line"
    if path is not None:
        data, source = _read_toml(Path(path), kind), f"{kind} {path}"
    for override in overrides:
        _apply_override(data, override)
    return validate_recipe(cls, data, source)


def _read_toml(path: Path, kind: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{kind} {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{kind} {path}: not valid TOML: {error}") from None


def validate_recipe(cls: type[R], data: dict[str, Any], source: str) -> R:
    """Validate a plain dictionary as `cls`; `source` begins the message of every `InputError`."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{source}: {_describe(error.errors()[0], cls)}") from None


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"override {override!r}: expected key=value, for example training.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = data
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"override {override!r}: {part} is a value, not a table")
    table[parts[-1]] = value


def _describe(error: Any, cls: type[Recipe]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _keys(cls), n=1, cutoff=0.0)
        return f"unknown key {key!r}; the nearest is {near[0]!r}" if near else f"unknown key {key!r}"
    if error["type"] == "missing":
        return f"key {key!r} is absent and has no default"
    if error["type"] == "value_error":  # one of our own validators, which names what it is about
        where = f"{key}: " if key else ""
        return where + error["msg"].removeprefix("Value error, ")
    return f"{key} = {error['input']!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _keys(cls: type[Recipe], prefix: str = "") -> list[str]:
    """Every key of a recipe class, dotted, tables before their members."""
    keys = []
    for name, field in cls.model_fields.items():
        keys.append(prefix + name)
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Recipe):
                keys += _keys(candidate, f"{prefix}{name}.")
    return keys
