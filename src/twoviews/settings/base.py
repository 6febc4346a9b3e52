"""What all settings have in common: what is unknown is an error, and what was checked can't change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bf16", "fp16"]
Stem = Literal["auto", "small", "small-pool", "original"]


def _joined(value: Any) -> Any:
    """Numbers as one string with commas, however they are given; YAML has them as a number or a list."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)):
        value = ",".join(str(number) for number in value)
    if not isinstance(value, str):
        return value
    try:
        numbers = sorted({float(number) for number in value.split(",")})
    except ValueError:
        raise ValueError("should be numbers with commas between them") from None
    return ",".join(f"{number:.10g}" for number in numbers)


Numbers = Annotated[str | None, BeforeValidator(_joined)]
"""Numbers with commas between them, kept in rising order."""


def numbers_of(text: str | None) -> list[float]:
    """The numbers of such a setting; none where it is not given."""
    return [] if text is None else [float(number) for number in text.split(",")]


_all_known: ContextVar[bool] = ContextVar("whether settings are compared with each other", default=True)


@contextmanager
def some_unknown() -> Iterator[None]:
    """Within this block settings are not compared with each other: some are not those that will be used."""
    token = _all_known.set(False)
    try:
        yield
    finally:
        _all_known.reset(token)


def compares(check: Callable[[Any], None]) -> Any:
    """A check of settings against each other, which raises ValueError."""

    def validate(settings: Any) -> Any:
        if _all_known.get():
            check(settings)
        return settings

    return model_validator(mode="after")(validate)


class Settings(BaseModel):
    """Unknown keys are errors; values can't change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Of a study's stage: the study's name for the group, and the settings in it.
    _group: tuple[str, frozenset[str]] | None = PrivateAttr(None)

    @property
    def group(self) -> str | None:
        """The study's name for the group that these settings came from; None for a command of its own."""
        return None if self._group is None else self._group[0]

    def flag(self, name: str) -> str:
        """How to type a setting in the command that runs: ``--base-lr``, in a study ``--pretrain.base-lr``."""
        assert name in type(self).model_fields, name
        of_group = self._group is not None and name in self._group[1]
        return "--" + (f"{self.group}.{name}" if of_group else name).replace("_", "-")

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_value(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML's yes, no, on and off are switches; Python would take them for 1 and 0.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError("should be a value, not a switch")
        return value


def stage_settings(command: type[Settings], *parts: Settings, **changes: Any) -> Any:
    """A command's settings from groups that hold its fields; fields of no use to it are left out."""
    values: dict[str, Any] = {}
    for part in parts:
        values.update({k: getattr(part, k) for k in type(part).model_fields if k in command.model_fields})
    values.update(changes)
    made = command.model_validate(values)
    for part in parts[1:]:
        for name, field in type(parts[0]).model_fields.items():
            if field.annotation is type(part):
                mark_group(made, type(parts[0]), name)
    return made


def mark_group(settings: Settings, study: type[Settings], name: str) -> None:
    """Note that settings are those of a group of a study's, whose flags carry its name.

    Raises:
        LookupError: the study has no such group.
    """
    group: Any = study.model_fields[name].annotation
    settings._group = (name, frozenset(group.model_fields))
