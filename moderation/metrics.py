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
STATEMENTS = Counter(
    "moderation_statements_total", "Statements of reasons, by what became of them.", ["outcome"]
)
STATEMENTS_WAITING = Gauge(
    "moderation_statement_backlog",
    "Statements of reasons pending and refused.",
    ["state"],
    multiprocess_mode="mostrecent",
)
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
CERTIFICATES = Gauge(
    "moderation_certificates_in_force",
    "Certificates that automatic decisions stand on.",
    multiprocess_mode="mostrecent",
)
CERTIFICATES_WATCHED = Gauge(
    "moderation_certificate_watch_age_seconds",
    "How long ago somebody last looked whether certificates still fit; 0 without any.",
    multiprocess_mode="mostrecent",
)
CERTIFICATES_VOIDED = Counter(
    "moderation_certificates_voided_total", "Certificates that ended before their time, by why.", ["reason"]
)
RETENTION_LAG = Gauge(
    "moderation_retention_lag_seconds",
    "How overdue the oldest expired item is.",
    ["class"],
    multiprocess_mode="mostrecent",
)
BANK_QUARANTINED = Gauge(
    "moderation_bank_entries_quarantined",
    "Entries of banks that matched far more than ever, and wait for a person to look.",
    multiprocess_mode="mostrecent",
)
HOLDS_OVERDUE = Gauge(
    "moderation_hold_review_overdue",
    "Holds past their review date, or asked for a week ago and not answered.",
    multiprocess_mode="mostrecent",
)
INCIDENT_DEADLINE = Gauge(
    "moderation_incident_deadline_seconds",
    "Time left to tell the authority of the most urgent incident; infinite without one.",
    multiprocess_mode="mostrecent",
)
AUDIT_UNSEQUENCED = Gauge(
    "moderation_audit_unsequenced_events",
    "Events of the audit log that have no number yet.",
    multiprocess_mode="mostrecent",
)
AUDIT_CHECKPOINT_AGE = Gauge(
    "moderation_audit_checkpoint_age_seconds",
    "Age of the oldest event that no checkpoint covers; 0 when all are covered.",
    multiprocess_mode="mostrecent",
)
AUDIT_BROKEN = Gauge(
    "moderation_audit_broken",
    "1 while the audit log does not fit what was signed before.",
    multiprocess_mode="mostrecent",
)
MINOR_CHECKS_OVERDUE = Gauge(
    "moderation_minor_check_overdue",
    "Suspected minors whom nobody checked in time.",
    multiprocess_mode="mostrecent",
)
REQUESTS_OVERDUE = Gauge(
    "moderation_subject_requests_overdue",
    "Requests of data subjects past their deadline.",
    multiprocess_mode="mostrecent",
)
PARTNER_DELETIONS = Gauge(
    "moderation_partner_deletions_unacknowledged",
    "Deletions that a partner has not acknowledged within a week.",
    multiprocess_mode="mostrecent",
)
KEK_AGE = Gauge(
    "moderation_kek_epoch_age_seconds",
    "Age of the key-encryption key that wraps now.",
    multiprocess_mode="mostrecent",
)
KEK_BEHIND = Gauge(
    "moderation_kek_keys_behind",
    "Keys still wrapped under an older key-encryption key.",
    multiprocess_mode="mostrecent",
)
MODEL_INFO = Gauge(
    "moderation_model_info",
    "1 for each model version that serves in a process that lives.",
    ["name", "version"],
    multiprocess_mode="livemax",
)
MODEL_CHANGES = Counter(
    "moderation_model_changes_total",
    "Versions that a process was to serve, by what came of it.",
    ["name", "outcome"],
)
MODEL_TRIALS = Gauge(
    "moderation_model_trial_info",
    "1 for each model version that a living process tries: as a shadow, which decides nothing, or as a canary.",
    ["name", "version", "alias"],
    multiprocess_mode="livemax",
)
SHADOWS = Counter(
    "moderation_shadow_parts_total",
    "Parts that a shadow was to score beside the champion, by what came of it.",
    ["name", "outcome"],
)
