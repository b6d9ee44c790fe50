"""A running service under a certificate, and traffic of another kind: for a test and a benchmark."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import yaml

from moderation import administration
from moderation.domain.promises import Side
from moderation.governance import lineups, policies
from moderation.storage.database import transaction
from tests import seeding, traffic
from tests.service import Service

CATEGORY = "harassment"
RUDE = "You are an idiot and nobody likes you"


def publish(service: Service) -> None:
    """The default policy with one promise: of what is let pass without a person, little is harassment."""
    document = yaml.safe_load(policies.default_document())
    document["categories"][CATEGORY]["allow"] = {"missed_at_most": 0.02}
    administration.publish_policy(seeding.settings_of(service), yaml.safe_dump(document))


def mild(count: int, seed: int) -> list[dict[str, Any]]:
    """Posts that nothing is wrong with."""
    chance = random.Random(seed)
    return [seeding.post(f"{seed}-{at}", seeding.sentence(chance)) for at in range(count)]


def rude(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Posts that break the rule."""
    return [seeding.post(f"rude-{seed}-{at}", f"{RUDE}, number {seed} {at}.") for at in range(count)]


def certify(service: Service, items: Sequence[str], number: int = 1) -> UUID:
    """A certificate of letting pass, for traffic like `items`."""
    with service.database() as database:
        rows = database.execute(
            "SELECT findings, detectors, slice, policy_version FROM decisions WHERE item_id = any(%s::uuid[])",
            [list(items)],
        ).fetchall()
    found = [one["probability"] for findings, *_ in rows for one in findings if one["category"] == CATEGORY]
    assert len(found) == len(items)
    _, detectors, slice_, policy = rows[0]
    with seeding.opened(service) as (databases, _), transaction(databases.content) as session:
        lineup = lineups.of(lineups.known(session), CATEGORY, detectors)
        return traffic.certificate(
            session, np.array(found), datetime.now(UTC), Side.ALLOW, category=CATEGORY, slice=slice_,
            lineup=lineup, policy_version=policy, threshold=0.20005, number=number,
        )  # fmt: skip


def citing(service: Service, certificate: UUID) -> set[str]:
    """The items that were decided under a certificate."""
    query = "SELECT item_id::text FROM decisions WHERE %s = any(certificates)"
    with service.database() as database:
        return {row[0] for row in database.execute(query, [certificate]).fetchall()}


def ended(service: Service, certificate: UUID) -> str | None:
    """Why a certificate is void; None while it is not."""
    with service.database() as database:
        row = database.execute("SELECT void_reason FROM certificates WHERE id = %s", [certificate]).fetchone()
    assert row is not None
    return str(row[0]) if row[0] else None
