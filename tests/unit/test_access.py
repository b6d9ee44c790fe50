"""Who may do what, written down a second time: a permission that moves has to move here too, on purpose."""

from __future__ import annotations

import pytest

from moderation.domain.access import GRANTS, Permission, Role, granted

MODERATORS = {"moderator", "lead"}
LEADS = {"lead"}
FINDERS = {"moderator", "lead", "privacy_officer", "legal"}
OFFICERS = {"privacy_officer", "legal", "auditor"}
EVERYBODY = {str(role) for role in Role}

WHO = {
    "self:manage": EVERYBODY,
    "dashboard:read": EVERYBODY,
    "policy:read": EVERYBODY,
    "case:read": MODERATORS,
    "case:decide": MODERATORS,
    "media:reveal": MODERATORS,
    "author:act": MODERATORS,
    "appeal:decide": MODERATORS,
    "bank:add": MODERATORS,
    "item:read": FINDERS,
    "author:read": FINDERS,
    "bank:read": {"moderator", "lead", "auditor", "admin"},
    "case:adjudicate": LEADS,
    "case:assign": LEADS,
    "author:ban": LEADS,
    "decision:reverse": LEADS,
    "quality:manage": LEADS,
    "bank:manage": LEADS,
    "quality:read": {"lead", "trainer", "auditor"},
    "policy:publish": {"lead", "admin"},
    "people:read": {"lead", "admin"},
    "people:manage": {"admin"},
    "key:manage": {"admin"},
    "audit:read": {"privacy_officer", "legal", "auditor", "admin"},
    "label:export": {"trainer"},
    "model:read": {"trainer", "lead", "auditor", "admin"},
    "model:propose": {"trainer", "admin"},
    "model:promote": {"lead", "admin"},
    "governance:read": OFFICERS | {"lead", "admin"},
    "transparency:read": OFFICERS | {"lead", "admin"},
    "audit:export": OFFICERS,
    "report:sign": {"privacy_officer", "auditor"},
    "hold:read": OFFICERS,
    "hold:request": {"legal"},
    "hold:approve": {"legal", "privacy_officer"},
    "evidence:read": {"legal"},
    "erasure:run": {"privacy_officer"},
    "subject:read": {"privacy_officer", "auditor"},
    "subject:handle": {"privacy_officer"},
    "minor:read": {"privacy_officer", "lead"},
    "minor:decide": {"privacy_officer", "lead"},
    "partner:read": OFFICERS,
    "partner:manage": {"legal"},
    "incident:read": OFFICERS | {"admin"},
    "incident:manage": {"privacy_officer", "admin"},
}


def test_every_permission_is_written_down() -> None:
    assert set(WHO) == set(Permission)


@pytest.mark.parametrize("permission", list(Permission), ids=str)
def test_a_permission_is_of_these_roles_and_no_other(permission: Permission) -> None:
    assert {role for role in Role if permission in GRANTS[role]} == WHO[permission]


def test_who_administers_sees_no_content() -> None:
    content = {Permission.CASE_READ, Permission.MEDIA_REVEAL, Permission.ITEM_READ, Permission.AUTHOR_READ}
    assert not content & GRANTS[Role.ADMIN]


def test_roles_add_up_and_unknown_ones_carry_nothing() -> None:
    assert granted(["trainer", "auditor"]) == GRANTS[Role.TRAINER] | GRANTS[Role.AUDITOR]
    assert granted([]) == granted(["emperor"]) == frozenset()
