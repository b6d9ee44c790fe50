"""Pictures for people: never the original bytes, always out of the guarded decoder, blurred unless revealed."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from threading import Lock
from typing import Annotated, Literal
from uuid import UUID

import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from PIL import Image, ImageFilter
from sqlalchemy import select

from api.auth import services
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Forbidden, Gone, NotFound
from moderation.features.decode import RGB, Decoder, Picture
from moderation.governance import audit, erasure
from moderation.governance.sessions import PersonPrincipal
from moderation.review import wellness
from moderation.storage.database import transaction
from moderation.storage.tables import Item, Part
from moderation.storage.vault import VaultError

router = APIRouter(prefix="/console", include_in_schema=False)

View = Literal["blurred", "grey", "full"]
Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
Position = Annotated[int, Path(ge=0, le=32_767)]
BLURRED_SIDE = 24
GAP = 8


class Renditions:
    """One guarded decoder for the pictures of this process's pages; its child starts with the first picture."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._turn = Lock()

    def picture(self, data: bytes) -> Picture:
        """The picture in `data`, decoded in the child.

        Raises:
            moderation.features.decode.UndecodableImage: it can't be shown.
        """
        with self._turn:
            return self._decoder.decode(data)

    def close(self) -> None:
        """End the child."""
        with self._turn:
            self._decoder.close()


@router.get("/media/{case_id}/{position}")
def media(
    request: Request, held: Held, me: Reader, case_id: UUID, position: Position, view: View = "blurred"
) -> Response:
    """A picture of a case: so that it can't be made out, or after a reveal, which is on the record, as it is."""
    now = datetime.now(UTC)
    with transaction(held.databases.content) as session:
        case = wellness.visible(session, me, case_id)
        if view != "blurred" and not wellness.is_revealed(session, me, case_id, now):
            raise Forbidden("Reveal the case first; then its pictures are shown as they are.")
        part = session.scalar(
            select(Part).where(Part.item_id == case.item_id, Part.position == position, Part.kind != "text")
        )
        if part is None:
            raise NotFound("This case has no such picture.")
        item = session.get(Item, case.item_id)
        if item is None or erasure.hidden(session, item, now):
            raise Gone("This picture has ended.")
        blob = part.blob or ""
        if view != "blurred":
            # Committed here, before the picture is opened.
            details = {"item": str(case.item_id), "position": position}
            audit.record(session, [audit.Event(me.actor, "media.viewed", "case", str(case_id), details)], now)
    picture = request.app.state.renditions.picture(_opened(held, case.item_id, position, blob))
    return Response(
        rendition(sheet(picture), view),
        media_type="image/webp",
        headers={"Cache-Control": "no-store", "Content-Disposition": "inline"},
    )


def _opened(held: Services, item_id: UUID, position: int, blob: str) -> bytes:
    key = held.vault.item_keys([item_id]).get(item_id)
    try:
        if key is not None:
            return key.decrypt(held.blobs.open(blob), "parts", "blob", str(item_id), str(position))
    except (VaultError, OSError):
        pass
    raise Gone("This picture has ended, or can't be read any more.")


def sheet(picture: Picture) -> RGB:
    """What people saw of a picture: on a white page if it is transparent, several moments of it if it moves."""
    seen: dict[int, RGB] = {}
    for frame in picture.frames:
        if frame.index not in seen or frame.variant == "composited":
            seen[frame.index] = frame.rgb
    looks = [seen[index] for index in sorted(seen)]
    if len(looks) == 1:
        return looks[0]
    height, width = (max(look.shape[axis] for look in looks) for axis in (0, 1))
    rows = (len(looks) + 1) // 2
    made = np.full((rows * (height + GAP) - GAP, 2 * width + GAP, 3), 255, np.uint8)
    for place, look in enumerate(looks):
        top, left = (place // 2) * (height + GAP), (place % 2) * (width + GAP)
        made[top : top + look.shape[0], left : left + look.shape[1]] = look
    return made


def rendition(rgb: RGB, view: str) -> bytes:
    """A picture as WebP, without any of its metadata.

    `blurred` keeps at most 24 pixels a side, grey and muted, and blurs those: what the browser gets can't be
    sharpened again.
    """
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if view == "blurred":
        size = image.size
        image = image.convert("L")
        image.thumbnail((BLURRED_SIDE, BLURRED_SIDE), Image.Resampling.BOX)
        image = image.filter(ImageFilter.GaussianBlur(1.6)).point(lambda value: 88 + value * 0.4)
        image = image.resize(size, Image.Resampling.BICUBIC)
    elif view == "grey":
        image = image.convert("L")
    made = BytesIO()
    image.save(made, "WEBP", quality=82, method=2)
    return made.getvalue()
