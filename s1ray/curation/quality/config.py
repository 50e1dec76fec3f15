"""Which rows count as broken: a field for each filter, whose name is the reason that the funnel counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from s1ray.config import Config

_MOVED: Mapping[str, str] = {
    "require": "say `missing_solution: true` or `false`, and the same of `missing_answer`",
    "formatting": "switch `asymptote_figure`, `image_placeholder`, `inconsistent_numbering`, `bold_number` and "
    "`misdecoded_text`, each by itself",
    "max_words": "it is `too_long`",
}
"""Field that there is no more -> what to write in its place."""

Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class QualityConfig(Config):
    """Which rows count as broken. Each filter is a field, in the order in which they look at a row.

    The first filter that fits drops the row; its name is the reason in the funnel. The defaults are steps A and B of
    s1's `filter.ipynb`, and `misdecoded_text`.
    """

    failed_call: bool = True
    """An earlier step (an API call) failed on the row (`columns.error`)."""
    missing_solution: bool = True
    """No reference working."""
    missing_answer: bool = False
    """No reference answer."""
    asymptote_figure: bool = True
    """s1: `[asy]`, a figure as Asymptote code."""
    image_placeholder: bool = True
    """s1: `![Image]`, where a picture was."""
    inconsistent_numbering: bool = True
    """s1: `p1.` to `p999.`, the numbers of another collection."""
    bold_number: bool = True
    """s1: a bold token with a digit after its opening stars on the same line."""
    misdecoded_text: bool = True
    """UTF-8 that was read as Windows-1252 (`â€™`), or characters that were lost (`�`)."""
    missing_figure: bool = False
    """Refers to a figure or a table ("as shown in the figure") that is not in the text."""
    missing_options: bool = False
    """Asks "which of the following" and lists nothing."""
    proof_question: bool = False
    """Asks for a proof and for nothing that could be compared with an answer."""
    several_parts: bool = False
    """Asks several questions, "(a) Find ... (b) Prove ...": one answer does not grade them."""
    too_short: int | None = Field(default=None, ge=1)
    """Fewer words than this, words being what stands between white space. None: off."""
    too_long: int | None = Field(default=None, ge=1)
    """More words than this. None: off."""
    repeated_text: bool = False
    """Says the same again and again: the whole text, a line, a phrase or a character."""
    language: list[Language] | None = Field(default=None, min_length=1)
    """The prose is in none of these languages (ISO 639-1: [en, fr]). Needs the extra `language`. None: off."""
    trusted_figures: list[str] = Field(default=["AIME"])
    """Sources (parts of their names) whose questions skip s1's four patterns and `misdecoded_text`, as in s1: their
    figures are given as code."""

    @model_validator(mode="before")
    @classmethod
    def _says_what_moved(cls, data: object) -> object:
        for name in data if isinstance(data, dict) else ():
            if name in _MOVED:
                raise ValueError(f"`{name}` is no field: {_MOVED[name]}")
        return data

    @field_validator("trusted_figures")
    @classmethod
    def _parts_of_names(cls, names: list[str]) -> list[str]:
        if "" in names:
            raise ValueError('"" is in the name of every source, so no pattern would look at any row')
        return names

    @model_validator(mode="after")
    def _leaves_a_length(self) -> QualityConfig:
        if self.too_short is not None and self.too_long is not None and self.too_short > self.too_long:
            raise ValueError(f"too_short ({self.too_short}) is above too_long ({self.too_long}), so no row would stay")
        return self

    @property
    def required(self) -> list[str]:
        """Fields of a question without which a row is dropped."""
        return [name for name in ("solution", "answer") if getattr(self, f"missing_{name}")]
