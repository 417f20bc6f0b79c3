"""What every part of an experiment file has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of an experiment file: frozen, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        use_attribute_docstrings=False,
        # Built as part of the whole, and not before: each by itself would take as long.
        defer_build=True,
    )
