"""What all settings have in common: what is unknown is an error, and what was checked can't change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


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
    return command.model_validate(values)
