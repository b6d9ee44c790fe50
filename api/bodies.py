"""Request bodies into submissions: JSON or multipart, with a cap that holds while bytes still arrive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from api.schemas import BatchIn, ImagePartIn, ItemIn, TextPartIn
from moderation.domain import content
from moderation.domain.content import ImagePart, Lane, Part, Submission, TextPart
from moderation.domain.errors import InvalidInput, TooLarge, UnsupportedMedia
from moderation.features.decode import inspect
from moderation.settings import Limits

_item = TypeAdapter(ItemIn)
_batch = TypeAdapter(BatchIn)


async def item(request: Request, limits: Limits) -> tuple[ItemIn, Mapping[str, bytes]]:
    """The item of a JSON or multipart request, and the files that came with it by field name.

    Raises:
        UnsupportedMedia: another content type.
        TooLarge: the body passes the limit.
        RequestValidationError: the JSON does not fit the schema.
        InvalidInput: the multipart body is malformed.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return parse(_item, await capped(request, limits)), {}
    if kind == "multipart/form-data":
        return await _multipart(request, limits)
    raise UnsupportedMedia(
        "Send application/json, or multipart/form-data with a field `item` and your files."
    )


async def batch(request: Request, limits: Limits) -> list[Any]:
    """The raw items of a batch: each is checked on its own later.

    Raises:
        UnsupportedMedia, TooLarge, RequestValidationError: as for `item`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia("Send application/json; pictures go in as base64.")
    parsed: BatchIn = parse(_batch, await capped(request, limits))
    items = parsed.items
    if len(items) > limits.batch_items:
        raise TooLarge(f"The batch has {len(items)} items; {limits.batch_items} is the most. Send several.")
    return items


def parse(adapter: TypeAdapter[Any], data: bytes | dict[str, Any]) -> Any:
    """Validate against a schema; the errors never repeat what was sent.

    Raises:
        RequestValidationError: it does not fit.
    """
    try:
        return adapter.validate_json(data) if isinstance(data, bytes) else adapter.validate_python(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(faults) from None


def validated(raw: Any) -> ItemIn:
    """One item of a batch.

    Raises:
        RequestValidationError: it does not fit the schema.
    """
    # Back to JSON, so that a batch is as strict as a single item: 1 is not "1", base64 is text.
    parsed: ItemIn = parse(_item, json.dumps(raw).encode("utf-8", "surrogatepass"))
    return parsed


async def capped(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it passes the limit; reading stops there.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body_bytes:
            raise _too_large(limits)
    return bytes(body)


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The request is larger than {limits.body_bytes:,} bytes; split it into several.")


async def _multipart(request: Request, limits: Limits) -> tuple[ItemIn, Mapping[str, bytes]]:
    # The parser spools to disk by itself: refuse by the announced length before it starts.
    announced = request.headers.get("content-length", "")
    if not announced.isdigit() or int(announced) > limits.body_bytes:
        raise _too_large(limits) if announced.isdigit() else InvalidInput("Send a Content-Length.")
    try:
        form = await request.form(max_files=limits.parts, max_fields=10, max_part_size=limits.body_bytes)
    except (MultiPartException, ValueError) as error:
        raise InvalidInput("The multipart body is malformed; check its boundary and parts.") from error
    files: dict[str, bytes] = {}
    document: bytes | None = None
    for name, value in form.multi_items():
        data = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "surrogatepass")
        if name == "item" and document is None:
            document = data
        elif name in files or name == "item":
            raise InvalidInput("Two multipart fields share a name; give each a name of its own.")
        else:
            files[name] = data
    if document is None:
        raise InvalidInput("The multipart body has no field `item` with the item's JSON.")
    return parse(_item, document), files


def submission(body: ItemIn, files: Mapping[str, bytes], lane: Lane, limits: Limits) -> Submission:
    """Check everything a schema can't and build the submission.

    Raises:
        InvalidInput: with a sentence that says what to do; never with content.
    """
    parts = [_part(part, files, limits) for part in body.parts]
    unused = set(files) - {part.upload for part in body.parts if isinstance(part, ImagePartIn)}
    if unused:
        raise InvalidInput("A file was sent that no part names with `upload`; name it or leave it out.")
    return Submission(
        external_id=content.checked_reference(body.external_id, "external_id"),
        author=content.checked_reference(body.author, "author"),
        kind=content.checked_name(body.kind, "kind"),
        parts=content.checked_parts(tuple(parts), limits.parts),
        context=content.checked_context(
            body.context.thread, body.context.parent, body.context.reach, body.context.language
        ),
        posted_at=body.posted_at,
        callback=body.callback,
        lane=lane,
    )


def _part(part: TextPartIn | ImagePartIn, files: Mapping[str, bytes], limits: Limits) -> Part:
    name = content.checked_name(part.name, "A part's name")
    if isinstance(part, TextPartIn):
        return TextPart(name, content.checked_text(part.text, f"Part {name}", limits.text_code_points))
    if (part.data is None) == (part.upload is None):
        raise InvalidInput(f"Part {name} needs either `data` (base64) or `upload` (a multipart field).")
    data = part.data if part.data is not None else files.get(part.upload or "")
    if data is None:
        raise InvalidInput(f"Part {name} names an upload that was not sent; send multipart with that field.")
    return ImagePart(name, data, inspect(data).media_type)
