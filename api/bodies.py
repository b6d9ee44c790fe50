"""Request bodies into submissions: JSON or multipart, with a cap that holds while bytes still arrive."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.hash_schemas import PictureIn
from api.schemas import BatchIn, ImagePartIn, ItemIn, TextPartIn
from moderation.domain import content
from moderation.domain.content import ImagePart, Lane, Part, Submission, TextPart
from moderation.domain.errors import InvalidInput, TooLarge, UnsupportedMedia
from moderation.features.decode import inspect
from moderation.settings import Limits

SMALL_BODY = 65_536
# What a form of the console, or the JSON of anything but items, may have.
FORM_BYTES = 1_048_576
OWN_CAP = {"/v1/items", "/v1/items/batch", "/v1/moderations", "/v1/hashes/match"}
_UPLOAD = re.compile(r"/(?:console/banks/[^/]+/(?:entries|look)|v1/banks/[^/]+/(?:entries|import))")
T = TypeVar("T")

_item = TypeAdapter(ItemIn)
_batch = TypeAdapter(BatchIn)
_picture = TypeAdapter(PictureIn)


class BodyCap:
    """Stops reading a body that is larger than its route needs, whoever sends it and whatever it claims to be.

    Plain ASGI, as forms and JSON are read before anybody knows who calls.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OWN_CAP:
            await self._app(scope, receive, send)
            return
        most = self._limits.body_bytes if _UPLOAD.fullmatch(scope["path"]) else FORM_BYTES
        length = Headers(scope=scope).get("content-length", "")
        seen, said = 0, int(length) if length.isdecimal() and len(length) < 19 else 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if max(seen, said) > most:
                # The framework's own class: it lets no other through while it reads a body.
                raise HTTPException(413, f"This has more than {most:,} bytes, which is the most; send less.")
            return message

        await self._app(scope, counted, send)


async def item(request: Request, limits: Limits) -> tuple[ItemIn, Mapping[str, bytes]]:
    """The item of a JSON or multipart request, and the files that came with it by field name.

    Raises:
        UnsupportedMedia: another content type.
        TooLarge: the body passes the limit.
        RequestValidationError: the JSON does not fit the schema.
        InvalidInput: the body is not JSON or multipart.
    """
    kind = content_type(request)
    if kind == "application/json":
        data = await capped(request, limits)
        return await _off_the_loop(data, lambda: validated(decoded_json(data))), {}
    if kind == "multipart/form-data":
        return await _multipart(request, limits)
    raise UnsupportedMedia(
        "Send application/json, or multipart/form-data with a field `item` and your files."
    )


async def batch(request: Request, limits: Limits) -> list[Any]:
    """The raw items of a batch: each is checked on its own later.

    Raises:
        UnsupportedMedia, TooLarge, RequestValidationError, InvalidInput: as for `item`.
    """
    if content_type(request) != "application/json":
        raise UnsupportedMedia("Send application/json; pictures go in as base64.")
    data = await capped(request, limits)
    parsed: BatchIn = await _off_the_loop(data, lambda: parse(_batch, decoded_json(data)))
    items = parsed.items
    if len(items) > limits.batch_items:
        raise TooLarge(f"The batch has {len(items)} items; {limits.batch_items} is the most. Send several.")
    return list(items)


async def document(request: Request, limits: Limits, adapter: TypeAdapter[T]) -> T:
    """The JSON body of a request by its schema.

    Raises:
        UnsupportedMedia, TooLarge, RequestValidationError, InvalidInput: as for `item`.
    """
    if content_type(request) != "application/json":
        raise UnsupportedMedia("Send application/json.")
    data = await capped(request, limits)
    parsed: T = await _off_the_loop(data, lambda: parse(adapter, decoded_json(data)))
    return parsed


async def picture(request: Request, limits: Limits) -> bytes:
    """The one picture of a JSON or multipart request: `image`, in base64 or as a file.

    Raises:
        UnsupportedMedia, TooLarge, RequestValidationError, InvalidInput: as for `item`.
    """
    kind = content_type(request)
    if kind == "application/json":
        data = await capped(request, limits)
        parsed: PictureIn = await _off_the_loop(data, lambda: parse(_picture, decoded_json(data)))
        return parsed.image
    if kind != "multipart/form-data":
        raise UnsupportedMedia("Send application/json, or multipart/form-data with the picture as `image`.")
    form = await _form(request, limits, 1)
    try:
        sent = form.get("image")
        if not isinstance(sent, UploadFile) or len(form.multi_items()) != 1:
            raise InvalidInput("Send one picture, as the file `image`, and nothing else.")
        return await sent.read()
    finally:
        await form.close()


async def _off_the_loop(data: bytes, read: Callable[[], T]) -> T:
    """`read()`, in a thread where `data` is large: parsing megabytes would hold up everybody's answer."""
    return read() if len(data) < SMALL_BODY else await run_in_threadpool(read)


def parse(adapter: TypeAdapter[Any], data: Any) -> Any:
    """Validate decoded JSON against a schema; the errors never repeat what was sent.

    Raises:
        RequestValidationError: it does not fit.
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(faults) from None


def validated(raw: Any) -> ItemIn:
    """One item, from decoded JSON.

    Raises:
        RequestValidationError: it does not fit the schema.
    """
    parsed: ItemIn = parse(_item, raw)
    return parsed


def decoded_json(data: bytes) -> Any:
    """JSON as RFC 8259 has it and every reader understands alike: UTF-8, no name twice, no NaN.

    Raises:
        InvalidInput: it is not, or it is nested deeper than anything sensible.
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidInput(
            "The body is not UTF-8; encode the JSON as UTF-8.", code="malformed_json"
        ) from None
    except RecursionError:
        raise InvalidInput("The JSON is nested too deeply.", code="malformed_json") from None
    except ValueError:
        # The parser's own words stay out of the answer: they could quote the body.
        raise InvalidInput(
            "The body is not JSON; check brackets and quotes.", code="malformed_json"
        ) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInput("A name stands twice in one JSON object; keep one.", code="malformed_json")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidInput("NaN and Infinity are not JSON; send a number or null.", code="malformed_json")


def content_type(request: Request) -> str:
    """The media type of a request's body, without its parameters; empty if it names none."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def capped(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it passes the limit; reading stops there.
    """
    body = bytearray()
    async with aclosing(_stream(request, limits)) as chunks:
        async for chunk in chunks:
            body += chunk
    return bytes(body)


async def _stream(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. What was announced is believed only if it is too much."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limits.body_bytes:
        raise _too_large(limits)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.body_bytes:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The request is larger than {limits.body_bytes:,} bytes; split it into several.")


class _InMemory(MultiPartParser):
    """Keeps files in memory, within the cap on the body: nothing a person posted lies unencrypted on a disk."""

    spool_max_size = 0


async def _form(request: Request, limits: Limits, most: int) -> FormData:
    """A multipart body of `most` files and `most` fields."""
    async with aclosing(_stream(request, limits)) as chunks:
        parser = _InMemory(
            request.headers, chunks, max_files=most, max_fields=most, max_part_size=limits.body_bytes
        )
        try:
            return await parser.parse()
        except (MultiPartException, ValueError) as error:
            raise InvalidInput("The multipart body is malformed; check its boundary and parts.") from error


async def _multipart(request: Request, limits: Limits) -> tuple[ItemIn, Mapping[str, bytes]]:
    form = await _form(request, limits, limits.parts + 1)
    document: bytes | None = None
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        data = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "surrogatepass")
        if name == "item" and document is None:
            document = data
        elif name in files or name == "item":
            raise InvalidInput("Two multipart fields share a name; give each a name of its own.")
        else:
            files[name] = data
    await form.close()
    if document is None:
        raise InvalidInput("The multipart body has no field `item` with the item's JSON.")
    return validated(decoded_json(document)), files


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
        posted_at=None if body.posted_at is None else content.checked_moment(body.posted_at, "posted_at"),
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
