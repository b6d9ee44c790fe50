"""Row 3: a versioned taxonomy, mapped whole to the categories and keywords that the EU published."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from moderation.domain import dsa, statements
from moderation.domain.decisions import AccountMeasure, Restriction
from moderation.domain.errors import PolicyInvalid
from moderation.domain.signals import Category
from moderation.domain.statements import Automation, Source
from moderation.governance import policies

# Of the enumerations of digital-services-act/transparency-database at 69e80a0bc8, as sorted JSON.
PUBLISHED = "27235f48d023cdfe14ecfb5ab059686c09e624552c8f10b1d6db33c8ecd048f6"
OF_V1 = {
    "STATEMENT_CATEGORIES": (
        "STATEMENT_CATEGORY_NON_CONSENSUAL_BEHAVIOUR", "STATEMENT_CATEGORY_PORNOGRAPHY_OR_SEXUALIZED_CONTENT",
        "STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE", "STATEMENT_CATEGORY_UNSAFE_AND_ILLEGAL_PRODUCTS",
    ),
    "KEYWORDS": (
        "KEYWORD_ONLINE_BULLYING_INTIMIDATION", "KEYWORD_DISINFORMATION", "KEYWORD_MISINFORMATION",
        "KEYWORD_REGULATED_GOODS_SERVICES", "KEYWORD_DANGEROUS_TOYS", "KEYWORD_GENDER_BASED_VIOLENCE",
    ),
}  # fmt: skip


def test_the_mapping_is_total_and_uses_published_names_only() -> None:
    enums = dsa.enumerations().enums
    assert set(statements.MEANINGS) == set(Category)
    for category, meaning in statements.MEANINGS.items():
        assert meaning.eu_category in enums["STATEMENT_CATEGORIES"], category
        assert meaning.keywords, category
        assert set(meaning.keywords) <= set(enums["KEYWORDS"]), category
        assert ("KEYWORD_OTHER" in meaning.keywords) == bool(meaning.other), category
    assert set(statements.VISIBILITY) == set(Restriction)
    assert {statements.REMOVED, *statements.VISIBILITY.values()} <= set(enums["DECISION_VISIBILITIES"])
    assert set(statements.ACCOUNT) == {AccountMeasure.SUSPEND, AccountMeasure.BAN}
    assert set(statements.ACCOUNT.values()) == set(enums["DECISION_ACCOUNTS"])
    assert set(statements.SOURCES) == set(Source)
    assert set(statements.SOURCES.values()) <= set(enums["SOURCE_TYPES"])
    assert set(map(str, Automation)) == set(enums["AUTOMATED_DECISIONS"])


def test_the_enumerations_are_the_published_ones_and_say_their_version(repository: Path) -> None:
    document = json.loads((repository / "moderation/data/dsa_enums.json").read_text(encoding="utf-8"))
    found = asdict(dsa.enumerations())
    assert (document["schema"], document["source"]) == (found["schema"], found["source"])
    assert document["schema"] == "v2"
    written = json.dumps(found["enums"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(written.encode()).hexdigest() == PUBLISHED


def test_names_of_the_first_version_are_refused() -> None:
    enums = dsa.enumerations().enums
    for name, old in OF_V1.items():
        assert not set(old) & set(enums[name])
    for category in OF_V1["STATEMENT_CATEGORIES"]:
        assert "category" in {fault.field for fault in dsa.faults({"category": category})}
        document = policies.default_document().replace("STATEMENT_CATEGORY_SELF_HARM", category)
        with pytest.raises(PolicyInvalid, match="schema v2"):
            policies.read(document, 1)
    for keyword in OF_V1["KEYWORDS"]:
        fields = {fault.field for fault in dsa.faults({"category_specification": [keyword]})}
        assert "category_specification" in fields


def test_every_policy_names_every_category_and_a_category_of_the_eu() -> None:
    policy = policies.read(policies.default_document(), 1)
    assert set(policy.categories) == {str(category) for category in Category}
    for rule in policy.categories.values():
        assert rule.eu_category == statements.eu_category(rule.name, rule.eu_category)
