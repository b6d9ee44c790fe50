"""What clients of other services send, as posts of ours: checked, and refused in a sentence."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api import bodies
from api.compat_schemas import IMAGE_INPUT, TEXT_INPUT, CommentIn
from moderation.domain import content
from moderation.domain.content import ImagePart, Part, TextPart
from moderation.domain.errors import InvalidInput, TooLarge
from moderation.features.decode import inspect
from moderation.settings import Limits

MOST_PICTURES = 8
MOST_SPANS = 100
_DATA = re.compile(r"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,", re.ASCII)
_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+[\"')\]\u2019\u201d]*(?:\s+|$)|[\u3002\uff01\uff1f]|\n+")

Post = tuple[Part, ...]


def posts(raw: Any, limits: Limits) -> list[Post]:
    """OpenAI's `input` as posts: one text, several texts of which each is a post, or the parts of one post.

    Raises:
        TooLarge: too many, or too much text, for one request.
        InvalidInput: of another shape; a picture that is no `data:` URL, or that can't be read.
        RequestValidationError: a part does not fit its schema.
    """
    found: list[Post]
    if isinstance(raw, str):
        found = [(_text(raw, 0, limits),)]
    elif isinstance(raw, list) and raw and all(isinstance(one, str) for one in raw):
        _few(len(raw), limits.batch_items, "texts")
        found = [(_text(one, index, limits),) for index, one in enumerate(raw)]
    elif isinstance(raw, list) and raw and all(isinstance(one, dict) for one in raw):
        _few(len(raw), limits.parts, "parts")
        found = [tuple(_part(one, index, limits) for index, one in enumerate(raw))]
    else:
        raise InvalidInput(
            "input must be a text, a list of texts, or a list of parts of type `text` or `image_url`."
        )
    parts = [part for post in found for part in post]
    _few(sum(isinstance(part, ImagePart) for part in parts), MOST_PICTURES, "pictures")
    total = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    _few(total, 2 * limits.text_code_points, "code points of text")
    return found


def _few(count: int, most: int, what: str) -> None:
    if count > most:
        raise TooLarge(f"input has {count:,} {what}; {most:,} is the most. Send several requests.")


def _text(text: str, index: int, limits: Limits) -> TextPart:
    return TextPart(f"input_{index}", content.checked_text(text, "A text of input", limits.text_code_points))


def _part(raw: dict[str, Any], index: int, limits: Limits) -> Part:
    if raw.get("type") == "text":
        return _text(bodies.parse(TEXT_INPUT, raw).text, index, limits)
    if raw.get("type") == "image_url":
        # The address is looked at before the schema: whoever sends another one has to hear what to do instead.
        url = raw["image_url"].get("url") if isinstance(raw.get("image_url"), dict) else None
        if isinstance(url, str):
            return _picture(url, index)
        bodies.parse(IMAGE_INPUT, raw)
    raise InvalidInput("Each part of input needs a type: `text` or `image_url`.")


def _picture(url: str, index: int) -> ImagePart:
    if not url[:5].lower() == "data:":
        raise InvalidInput(
            "Nothing is fetched from other addresses: send the picture itself, as "
            "`data:image/png;base64,...`.",
            code="image_url_not_data",
        )
    head = _DATA.match(url)
    try:
        data = base64.b64decode(url[head.end() :], validate=True) if head else None
    except (binascii.Error, ValueError):
        data = None
    if data is None:
        raise InvalidInput("An image_url holds no base64; send `data:image/png;base64,...`.")
    return ImagePart(f"input_{index}", data, inspect(data).media_type)


def comment(sent: CommentIn, limits: Limits) -> str:
    """The text of Perspective's `comment`.

    Raises:
        InvalidInput: it is empty, too long, or can't be read as text.
    """
    if not sent.text.strip():
        raise InvalidInput("Comment must be non-empty.", code="comment_empty")
    try:
        return content.checked_text(sent.text, "comment.text", limits.text_code_points)
    except TooLarge as error:
        raise TooLarge(error.detail, code="comment_too_long") from None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text; `begin` and `end` are counted in UTF-16 code units, as Perspective counts."""

    text: str
    begin: int
    end: int


def whole(text: str) -> Span:
    """All of a text."""
    return Span(text, 0, _units(text))


def sentences(text: str) -> list[Span]:
    """The sentences of a text without the blanks around them, at most `MOST_SPANS`: more are taken together."""
    ends = [match.end() for match in _END.finditer(text)]
    if len(ends) >= MOST_SPANS:
        step = -(-(len(ends) + 1) // MOST_SPANS)
        ends = ends[step - 1 :: step]
    spans, start, units = list[Span](), 0, 0
    for end in dict.fromkeys([*ends, len(text)]):
        piece = text[start:end]
        said = piece.strip()
        if said:
            begin = units + _units(piece[: piece.index(said)])
            spans.append(Span(said, begin, begin + _units(said)))
        start, units = end, units + _units(piece)
    return spans


def _units(text: str) -> int:
    return len(text) + sum(ord(character) > 0xFFFF for character in text)


def primary(languages: Sequence[str]) -> list[str]:
    """The primary subtags of BCP 47 tags, each once."""
    return list(dict.fromkeys(language.split("-")[0].lower() for language in languages))
