"""Pictures for people: never the original bytes, always out of the guarded decoder, blurred unless revealed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from sqlalchemy import select

from api.auth import services
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import Forbidden, Gone, NotFound, Unavailable
from moderation.features.decode import Decoder, DecoderBroken, Picture
from moderation.features.rendition import MEDIA_TYPE, View, rendition, sheet
from moderation.governance import audit, erasure
from moderation.governance.sessions import PersonPrincipal
from moderation.review import wellness
from moderation.storage.database import transaction
from moderation.storage.tables import Item, Part
from moderation.storage.vault import VaultError

router = APIRouter(prefix="/console", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Reader = Annotated[PersonPrincipal, Depends(person(Permission.CASE_READ))]
Position = Annotated[int, Path(ge=0, le=32_767)]
RETRY_SECONDS = 5.0


class Renditions:
    """One guarded decoder for the pictures of this process; its child starts with the first picture.

    It has a thread of its own, in which pictures wait for their turn: the child ends with the thread that started
    it, and those that answer requests come and go.
    """

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoding")

    def picture(self, data: bytes) -> Picture:
        """The picture in `data`, decoded in the child.

        Raises:
            moderation.features.decode.UndecodableImage: it can't be shown.
            Unavailable: no child can be started.
        """
        try:
            return self._thread.submit(self._decoder.decode, data).result()
        except DecoderBroken as error:
            raise Unavailable(
                "No picture can be decoded here just now; try again later.", retry_after=RETRY_SECONDS
            ) from error

    def close(self) -> None:
        """End the child and the thread."""
        self._thread.shutdown()
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
        media_type=MEDIA_TYPE,
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
