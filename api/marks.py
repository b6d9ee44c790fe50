"""The words that moved a score, for whoever reads a case: found by the champion, in a thread of their own.

A page waits a moment for them and is shown without if they take longer, no model can be loaded or anything fails;
what comes too late is there when the page is opened again. Kept are places and numbers, in memory, for as long as
somebody may have the case in hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from time import monotonic
from uuid import UUID

import structlog

from models.serving import Served
from moderation.review import marks
from moderation.review.marks import Found, Sought
from moderation.review.views import CaseFile

WAIT_SECONDS = 1.0
KEPT_SECONDS = 600.0
MOST_KEPT = 256
MOST_WAITING = 8
PAUSE_SECONDS = 30.0
"""For how long nothing is tried after no model could be loaded."""
Key = tuple[UUID, str, str, str, int]

log = structlog.get_logger()


class Marks:
    """Marks texts of cases. Safe for threads."""

    def __init__(self, serving: Callable[[], Served]) -> None:
        self._serving = serving
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="marks")
        self._lock = Lock()
        self._kept: OrderedDict[Key, tuple[float, Found | None]] = OrderedDict()
        self._waiting = 0
        self._not_before = 0.0

    def of(self, file: CaseFile) -> CaseFile:
        """The file with its texts marked, if that is quick; the file as it is otherwise."""
        wanted = marks.sought(file)
        if not wanted:
            return file
        try:
            future = self._asked(file.case.item_id, wanted)
            if future is None:
                return file
            return marks.shown(file, future.result(WAIT_SECONDS))
        except TimeoutError:
            log.info("marks_late", item=str(file.case.item_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the case is to be read
            log.warning("marks_failed", item=str(file.case.item_id), cause=type(error).__name__)
        return file

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def close(self) -> None:
        """Begin nothing more, finish what was begun, forget everything."""
        self._thread.shutdown(cancel_futures=True)
        self.clear()

    def _asked(self, item: UUID, wanted: Sequence[Sought]) -> Future[dict[Sought, Found]] | None:
        with self._lock:
            if self._waiting >= MOST_WAITING or monotonic() < self._not_before:
                return None
            self._waiting += 1
        future = self._thread.submit(self._find, item, wanted)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[dict[Sought, Found]]) -> None:
        with self._lock:
            self._waiting -= 1

    def _find(self, item: UUID, wanted: Sequence[Sought]) -> dict[Sought, Found]:
        try:
            served = self._serving()
        except Exception:
            self._not_before = monotonic() + PAUSE_SECONDS
            raise
        versions = {one.manifest.name: one.manifest.sha256 for one in served.of_texts}
        found = {}
        for one in wanted:
            version = versions.get(one.detector, "")
            key = (item, one.part, one.category, version, hash((one.text, one.disguised)))
            known, result = self._remembered(key)
            if not known:
                result = marks.find(served.of_texts, one)
                self._remember(key, result)
            if result is not None:  # a rule's score is no model's, and has its own mark if it has a place
                found[one] = result
            if len(found) == marks.MOST_CATEGORIES:
                break
        return found

    def _remembered(self, key: Key) -> tuple[bool, Found | None]:
        with self._lock:
            until, result = self._kept.get(key, (0.0, None))
            return until > monotonic(), result

    def _remember(self, key: Key, result: Found | None) -> None:
        now = monotonic()
        with self._lock:
            self._kept[key] = (now + KEPT_SECONDS, result)
            self._kept.move_to_end(key)
            # All are kept equally long, so the oldest are first.
            while len(self._kept) > MOST_KEPT or next(iter(self._kept.values()))[0] <= now:
                self._kept.popitem(last=False)
