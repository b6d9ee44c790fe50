"""Shapes of the two addresses that speak as other services do: OpenAI's moderations and Perspective's comments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from api.schemas import Strict

MOST_LANGUAGES = 20
Token = Annotated[str, Field(max_length=256)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]
MOST_ATTRIBUTES = 50


class TextInputIn(Strict):
    """A text."""

    type: Literal["text"]
    text: str = Field(description="At most 50,000 code points.", examples=["Lovely weather in Lisbon today."])


class ImageUrlIn(Strict):
    """A picture, in the address itself."""

    url: str = Field(
        pattern="^data:",
        description="JPEG, PNG, WebP, GIF or AVIF as `data:image/png;base64,...`, at most 10 MB.",
    )


class ImageInputIn(Strict):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrlIn


# What `input` may be, for the document: it is read by hand, as of a union the framework would complain three times.
INPUT = {
    "oneOf": [
        {"type": "string", "maxLength": 50_000},
        {"type": "array", "items": {"type": "string", "maxLength": 50_000}, "minItems": 1, "maxItems": 100},
        {
            "type": "array",
            "items": {
                "oneOf": [
                    {"$ref": "#/components/schemas/TextInputIn"},
                    {"$ref": "#/components/schemas/ImageInputIn"},
                ]
            },
            "minItems": 1,
            "maxItems": 100,
        },
    ]
}


class ModerationIn(Strict):
    """What OpenAI's clients send: one text, several texts, or the parts of one post."""

    input: Any
    model: str | None = Field(default=None, max_length=256, description="Read and not used: ours answer.")


class ResultOut(Strict):
    """What was found in one input, by OpenAI's names and our own."""

    flagged: bool = Field(description="Whether the policy would not simply allow it.")
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class ModerationOut(Strict):
    """Results in the order of the inputs; the parts of one post have one result."""

    id: str
    model: str = Field(description="The versions that gave the scores.")
    results: list[ResultOut]


class Camel(Strict):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class CommentIn(Camel):
    """The text."""

    text: str = Field(description="At most 50,000 code points.", examples=["Lovely weather in Lisbon today."])
    type: Literal["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT"] | None = None


class AttributeIn(Camel):
    """How one attribute is wanted."""

    score_type: Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"] | None = None
    score_threshold: float | None = Field(default=None, ge=0, le=1, description="Lower scores are left out.")


class _Commenting(Camel):
    comment: CommentIn
    context: dict[str, Any] | None = Field(default=None, description="Read and not used.")
    languages: Annotated[list[Language], Field(max_length=MOST_LANGUAGES)] | None = None
    client_token: Token | None = Field(default=None, description="Comes back in the answer; never stored.")
    community_id: Token | None = Field(default=None, description="Read and not used.")
    session_id: Token | None = Field(default=None, description="Read and not used.")


class AnalyzeIn(_Commenting):
    """What Perspective's clients send to have a comment scored."""

    requested_attributes: dict[str, AttributeIn] = Field(
        max_length=MOST_ATTRIBUTES, examples=[{"TOXICITY": {}}]
    )
    do_not_store: bool | None = Field(default=None, description="Read and not used: nothing is ever stored.")
    span_annotations: bool | None = Field(default=None, description="Scores of each sentence, too.")


class ScoreIn(Camel):
    """A score as it should have been."""

    value: float = Field(ge=0, le=1)
    type: Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"] | None = None


class SuggestedIn(Camel):
    """The suggested score of one attribute."""

    summary_score: ScoreIn
    span_scores: list[Any] | None = Field(default=None, description="Read and not used.")


class SuggestIn(_Commenting):
    """What Perspective's clients send to say how a comment should have been scored."""

    attribute_scores: dict[str, SuggestedIn] = Field(
        max_length=MOST_ATTRIBUTES, examples=[{"TOXICITY": {"summaryScore": {"value": 0}}}]
    )


class ScoreOut(Camel):
    """A calibrated probability."""

    value: float
    type: Literal["PROBABILITY"] = "PROBABILITY"


class SpanOut(Camel):
    """The score of a stretch of the text, from `begin` to before `end`, in UTF-16 code units."""

    begin: int
    end: int
    score: ScoreOut


class AttributeOut(Camel):
    """The scores of one attribute."""

    summary_score: ScoreOut | None = None
    span_scores: list[SpanOut] | None = None


class AnalyzeOut(Camel):
    """Scores by attribute."""

    attribute_scores: dict[str, AttributeOut]
    languages: list[str]
    detected_languages: list[str] | None = None
    client_token: str | None = None


class SuggestOut(Camel):
    """That a suggestion was kept."""

    requested_languages: list[str] | None = None
    detected_languages: list[str] | None = None
    client_token: str | None = None


MODERATION = TypeAdapter(ModerationIn)
TEXT_INPUT = TypeAdapter(TextInputIn)
IMAGE_INPUT = TypeAdapter(ImageInputIn)
ANALYZE = TypeAdapter(AnalyzeIn)
SUGGEST = TypeAdapter(SuggestIn)
