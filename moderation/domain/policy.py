"""The policy as frozen types, and the check that turns plain data into them.

A policy is a published, immutable document. Per category it says how grave a violation is and, until a
certificate has been earned, between which calibrated probabilities a machine may act alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from moderation.domain import dsa
from moderation.domain.documents import Reader
from moderation.domain.errors import PolicyInvalid
from moderation.domain.promises import CertificateRules
from moderation.domain.retention import Clock, Retention, RetentionClass
from moderation.domain.reviewing import Clause, ReviewRules, read_clauses, read_review
from moderation.domain.signals import Category
from moderation.domain.subjects import RightsRules

MOST_NOTICE_DAYS = 180


class Fail(StrEnum):
    """What a failed detector means: ignore it, restrict the item, or ask people."""

    OPEN = "open"
    CLOSED = "closed"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Bands:
    """Calibrated probabilities: below `allow_below` harmless, from `limit_from` and `remove_from` acted upon.

    A `remove_from` of 1 means that a machine never removes, whatever a detector says.
    """

    allow_below: float
    remove_from: float
    limit_from: float | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """The error rate the service may promise once it is certified; it takes effect with a certificate."""

    wrong_at_most: float | None = None
    missed_at_most: float | None = None


@dataclass(frozen=True, slots=True)
class CategoryRule:
    """What the policy says of one category. `severity` runs from 1 (nuisance) to 5 (gravest)."""

    name: str
    severity: int
    bands: Bands
    eu_category: str
    retention: str | None = None
    deadline_hours: float | None = None
    opinions: int = 1
    promise: Promise = field(default_factory=Promise)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole document; `version` is given when it is published."""

    name: str
    version: int
    categories: Mapping[str, CategoryRule]
    detectors: Mapping[str, Fail]
    retention: Retention
    deadline_hours: float
    review: ReviewRules = field(default_factory=ReviewRules)
    clauses: Mapping[str, Clause] = field(default_factory=dict)
    rights: RightsRules = field(default_factory=RightsRules)
    notice_days: float = 0  # between telling of the next version and its taking effect
    certificates: CertificateRules = field(default_factory=CertificateRules)

    def clauses_of(self, category: str) -> tuple[Clause, ...]:
        """The clauses under `category`, never none: a category that names none is a clause of its own."""
        named = tuple(clause for clause in self.clauses.values() if clause.category == category)
        return named or (Clause(category, category, category.replace("_", " ")),)

    def clause(self, identifier: str) -> Clause | None:
        """The clause of that id, a category's own one included."""
        if identifier in self.clauses:
            return self.clauses[identifier]
        return self.clauses_of(identifier)[0] if identifier in self.categories else None

    def fail_mode(self, detector: str) -> Fail:
        """What a failure of `detector` means; one the policy does not name goes to people."""
        return self.detectors.get(detector, Fail.REVIEW)


def parse_policy(data: object, version: int) -> Policy:
    """Check plain data (as a YAML reader gives it) and build the policy.

    Raises:
        PolicyInvalid: with every fault found, each with the path of its key.
    """
    reader = Reader()
    known = {"name", "deadline_hours", "retention", "detectors", "categories", "review", "clauses", "rights"}
    known |= {"notice_days", "certificates"}
    root = reader.mapping(data, (), known)
    name = reader.value(root, (), "name", str)
    hours = reader.number(root, (), "deadline_hours", 0.1, 8760)
    retention = _retention(reader, root.get("retention"))
    detectors = _detectors(reader, root.get("detectors", {}))
    categories = _categories(reader, root.get("categories"), _class_names(root.get("retention")))
    review = read_review(reader, root.get("review", {}))
    clauses = read_clauses(reader, root.get("clauses", {}), {str(category) for category in Category})
    rights = _rights(reader, root.get("rights", {}))
    certificates = _certificates(reader, root.get("certificates", {}))
    notice = reader.optional(
        root, "notice_days", lambda: reader.number(root, (), "notice_days", 0, MOST_NOTICE_DAYS)
    )
    if reader.faults or retention is None:
        raise PolicyInvalid(reader.faults)
    kept_as = {rule.name: rule.retention for rule in categories.values() if rule.retention is not None}
    retention = replace(retention, by_category=kept_as)
    return Policy(
        name,
        version,
        categories,
        detectors,
        retention,
        hours,
        review,
        clauses,
        rights,
        notice or 0,
        certificates,
    )


# Between what each number must lie.
_CERTIFICATES: Mapping[str, tuple[float, float]] = {
    "confidence": (0.5, 0.999),
    "renewals": (1, 100),
    "every_days": (0.04, 90),
    "valid_days": (0.04, 180),
    "period_days": (1, 365),
    "settle_hours": (0, 720),
    "overlooked": (0, 0.5),
    "tolerance": (0.05, 10),
}


def _certificates(reader: Reader, data: object) -> CertificateRules:
    path = ("certificates",)
    root = reader.mapping(data, path, {*_CERTIFICATES, "languages"})
    given: dict[str, Any] = {}
    for name in set(_CERTIFICATES) & set(root):
        low, high = _CERTIFICATES[name]
        read = reader.whole if name == "renewals" else reader.number
        given[name] = read(root, path, name, low, high)  # type: ignore[arg-type]
    languages = root.get("languages", [])
    if not isinstance(languages, list) or not all(
        isinstance(one, str) and re.fullmatch("[a-z]{2,3}", one) for one in languages
    ):
        reader.fault((*path, "languages"), "languages must be a list of codes such as [en, de]")
        languages = []
    return CertificateRules(**given, languages=tuple(dict.fromkeys(languages)))


def _rights(reader: Reader, data: object) -> RightsRules:
    path = ("rights",)
    root = reader.mapping(data, path, {"days", "minor_hours"})
    # Article 12(3) of the GDPR asks for an answer within a month.
    days = reader.optional(root, "days", lambda: reader.whole(root, path, "days", 1, 90))
    hours = reader.optional(root, "minor_hours", lambda: reader.number(root, path, "minor_hours", 0.1, 720))
    given = RightsRules()
    return RightsRules(given.days if days is None else days, given.minor_hours if hours is None else hours)


def _retention(reader: Reader, data: object) -> Retention | None:
    path: tuple[str, ...] = ("retention",)
    stages = ("received", "review", "allow", "limit", "remove")
    root = reader.mapping(
        data, path, {"classes", "records_days", "bank_entries_days", "models_days", *stages}
    )
    if not isinstance(data, dict):
        return None
    given = reader.mapping(root.get("classes"), (*path, "classes"), None)
    classes = {name: _retention_class(reader, name, value) for name, value in given.items()}
    chosen = {stage: reader.choice(root, path, stage, set(classes)) for stage in stages}
    # A record must outlive every appeal that may be lodged against it.
    records = reader.optional(
        root, "records_days", lambda: reader.whole(root, path, "records_days", 365, 36_500)
    )
    banked = reader.optional(
        root, "bank_entries_days", lambda: reader.whole(root, path, "bank_entries_days", 1, 36_500)
    )
    models = reader.optional(root, "models_days", lambda: reader.whole(root, path, "models_days", 1, 3650))
    if reader.faults:
        return None
    received, review, allow, limit, remove = (chosen[stage] for stage in stages)
    kept = Retention(classes, received, review, allow, limit, remove)
    return replace(
        kept,
        records_days=records or kept.records_days,
        bank_entries_days=banked or kept.bank_entries_days,
        models_days=models or kept.models_days,
    )


def _retention_class(reader: Reader, name: str, data: object) -> RetentionClass:
    path = ("retention", "classes", name)
    root = reader.mapping(data, path, {"from", "days", "floor_days", "basis"})
    clock = reader.choice(root, path, "from", {str(clock) for clock in Clock})
    days = reader.whole(root, path, "days", 0, 36_500)
    floor = (
        reader.optional(root, "floor_days", lambda: reader.whole(root, path, "floor_days", 0, 36_500)) or 0
    )
    if floor > days:
        reader.fault((*path, "floor_days"), f"floor_days must not pass days ({days})")
    basis = reader.optional(root, "basis", lambda: reader.value(root, path, "basis", str)) or ""
    return RetentionClass(name, Clock(clock) if clock else Clock.RECEIVED, days, floor, basis)


def _class_names(retention: object) -> set[str]:
    """The class names as written, so that a fault elsewhere in them causes no second fault."""
    classes = retention.get("classes") if isinstance(retention, dict) else None
    return {str(name) for name in classes} if isinstance(classes, dict) else set()


def _detectors(reader: Reader, data: object) -> dict[str, Fail]:
    result = {}
    for name, value in reader.mapping(data, ("detectors",), None).items():
        root = reader.mapping(value, ("detectors", name), {"fail"})
        mode = reader.choice(root, ("detectors", name), "fail", {str(fail) for fail in Fail})
        result[name] = Fail(mode) if mode else Fail.REVIEW
    return result


def _categories(reader: Reader, data: object, classes: set[str]) -> dict[str, CategoryRule]:
    required = {str(category) for category in Category}
    given = reader.mapping(data, ("categories",), required)
    for name in sorted(required - set(given)):
        reader.fault(
            ("categories",), f"category {name} is missing; a policy must say something of every category"
        )
    return {
        name: _category(reader, name, value, classes) for name, value in given.items() if name in required
    }


def _category(reader: Reader, name: str, data: object, classes: set[str]) -> CategoryRule:
    path = ("categories", name)
    known = {"severity", "until_certified", "eu_category", "retention", "deadline_hours", "opinions"}
    root = reader.mapping(data, path, known | {"remove", "allow"})
    eu_category = reader.value(root, path, "eu_category", str)
    if eu_category and eu_category not in dsa.enumerations().enums["STATEMENT_CATEGORIES"]:
        said = "eu_category must be a statement category of the EU's database, schema v2 (docs/statements.md)"
        reader.fault((*path, "eu_category"), said)
    severity = reader.whole(root, path, "severity", 1, 5)
    return CategoryRule(
        name=name,
        severity=severity,
        bands=_bands(reader, (*path, "until_certified"), root.get("until_certified")),
        eu_category=eu_category,
        retention=reader.optional(root, "retention", lambda: reader.choice(root, path, "retention", classes)),
        deadline_hours=reader.optional(
            root, "deadline_hours", lambda: reader.number(root, path, "deadline_hours", 0.1, 8760)
        ),
        opinions=reader.optional(root, "opinions", lambda: reader.whole(root, path, "opinions", 1, 2)) or 1,
        promise=Promise(
            wrong_at_most=_promise(reader, root, path, "remove", "wrong_at_most"),
            missed_at_most=_promise(reader, root, path, "allow", "missed_at_most"),
        ),
    )


def _bands(reader: Reader, path: tuple[str, ...], data: object) -> Bands:
    root = reader.mapping(data, path, {"allow_below", "limit_from", "remove_from"})
    allow = reader.number(root, path, "allow_below", 0, 1)
    remove = reader.number(root, path, "remove_from", 0, 1)
    limit = reader.optional(root, "limit_from", lambda: reader.number(root, path, "limit_from", 0, 1))
    if not allow <= (remove if limit is None else limit) <= remove:
        reader.fault(path, "thresholds must rise: allow_below <= limit_from <= remove_from")
    return Bands(allow, remove, limit)


def _promise(
    reader: Reader, root: Mapping[str, Any], path: tuple[str, ...], side: str, key: str
) -> float | None:
    if root.get(side) is None:
        return None
    given = reader.mapping(root[side], (*path, side), {key})
    return reader.number(given, (*path, side), key, 0.0001, 0.5)
