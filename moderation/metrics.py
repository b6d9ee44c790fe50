"""Every counter and histogram, declared once.

Labels name lanes, stages, categories and detectors; never an author, an item or a person.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ITEMS = Counter("moderation_items_total", "Items accepted.", ["source", "kind"])
KINDS = 50
_kinds: set[str] = set()


def kind_label(kind: str) -> str:
    """A client's own word as a label, for the first fifty words of a process; `other` from then on.

    Labels are kept for ever: a client that sends ever new words must not fill the memory with them.
    """
    if len(_kinds) < KINDS:
        _kinds.add(kind)
    return kind if kind in _kinds else "other"


DECISIONS = Counter("moderation_decisions_total", "Decisions recorded.", ["route", "category", "decision"])
STAGE_DURATION = Histogram(
    "moderation_stage_duration_seconds",
    "Time a pipeline stage took for one batch.",
    ["stage"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
DETECTOR_FAILURES = Counter("moderation_detector_failures_total", "Items a detector failed on.", ["detector"])
CSP_REPORTS = Counter("moderation_csp_reports_total", "Pages that broke their own content security policy.")
WEBHOOKS = Counter("moderation_webhooks_total", "Webhook attempts.", ["outcome"])
BACKLOG_ITEMS = Gauge(
    "moderation_backlog_items", "Items not yet screened.", ["lane", "state"], multiprocess_mode="mostrecent"
)
BACKLOG_AGE = Gauge(
    "moderation_backlog_oldest_age_seconds",
    "Age of the oldest item due.",
    ["lane"],
    multiprocess_mode="mostrecent",
)
OUTBOX_AGE = Gauge(
    "moderation_outbox_oldest_age_seconds", "Age of the oldest webhook due.", multiprocess_mode="mostrecent"
)
QUEUE_AGE = Gauge(
    "moderation_queue_oldest_age_seconds",
    "Age of the oldest open case.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
DEADLINES_MISSED = Gauge(
    "moderation_queue_deadline_missed_cases",
    "Open cases past their deadline.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
OVERTURNS = Counter(
    "moderation_overturns_total", "Decisions that a person found wrong, by how it was found.", ["by"]
)
RETENTION_LAG = Gauge(
    "moderation_retention_lag_seconds",
    "How overdue the oldest expired item is.",
    ["class"],
    multiprocess_mode="mostrecent",
)
MODEL_INFO = Gauge(
    "moderation_model_info", "The model versions being served.", ["name", "version"], multiprocess_mode="max"
)
