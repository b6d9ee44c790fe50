"""Who may do what: roles of the people who work here, and the permissions each of them carries.

A permission is `resource:action`. Every route names one; what no role carries, nobody may do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum


class Role(StrEnum):
    """What somebody works as; a person may have several."""

    MODERATOR = "moderator"
    LEAD = "lead"
    TRAINER = "trainer"
    PRIVACY_OFFICER = "privacy_officer"
    LEGAL = "legal"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route asks for."""

    SELF_MANAGE = "self:manage"  # one's own log-in, settings and results
    DASHBOARD_READ = "dashboard:read"  # numbers without content
    CASE_READ = "case:read"  # queues, cases and their content
    CASE_DECIDE = "case:decide"  # claim, skip, escalate, give an opinion, undo one's own
    CASE_ADJUDICATE = "case:adjudicate"  # settle what others disagree on or escalated
    CASE_ASSIGN = "case:assign"  # hand over or free somebody else's claim
    MEDIA_REVEAL = "media:reveal"  # see a picture without blur
    ITEM_READ = "item:read"  # search items, see one with its history
    AUTHOR_READ = "author:read"
    AUTHOR_ACT = "author:act"  # warn, strike, suspend
    AUTHOR_BAN = "author:ban"
    DECISION_REVERSE = "decision:reverse"
    APPEAL_DECIDE = "appeal:decide"
    QUALITY_READ = "quality:read"  # agreement, overturns: numbers, of nobody by name
    QUALITY_MANAGE = "quality:manage"  # sampling view, golden items and their contests
    BANK_READ = "bank:read"
    BANK_ADD = "bank:add"  # "bank this", "not the same": entries that nobody has verified yet
    BANK_MANAGE = "bank:manage"
    POLICY_READ = "policy:read"
    POLICY_PUBLISH = "policy:publish"
    PEOPLE_READ = "people:read"
    PEOPLE_MANAGE = "people:manage"
    KEY_MANAGE = "key:manage"  # API keys of content services
    AUDIT_READ = "audit:read"
    LABEL_EXPORT = "label:export"
    MODEL_READ = "model:read"
    MODEL_PROPOSE = "model:propose"
    MODEL_PROMOTE = "model:promote"  # what somebody else proposed
    GOVERNANCE_READ = "governance:read"  # the overview of duties, retention and signed reports: numbers
    TRANSPARENCY_READ = "transparency:read"
    REPORT_SIGN = "report:sign"
    AUDIT_EXPORT = "audit:export"  # checkpoints and proofs
    HOLD_READ = "hold:read"  # holds, preservation packages, disclosures; never their content
    HOLD_REQUEST = "hold:request"  # holds and disclosures: ask for, release
    HOLD_APPROVE = "hold:approve"  # what somebody else asked for
    EVIDENCE_READ = "evidence:read"  # content kept for a floor or a hold after it ended for everybody else
    ERASURE_RUN = "erasure:run"
    SUBJECT_READ = "subject:read"  # requests of data subjects
    SUBJECT_HANDLE = "subject:handle"
    MINOR_READ = "minor:read"
    MINOR_DECIDE = "minor:decide"
    PARTNER_READ = "partner:read"
    PARTNER_MANAGE = "partner:manage"
    INCIDENT_READ = "incident:read"
    INCIDENT_MANAGE = "incident:manage"


_P = Permission
_EVERYBODY = {_P.SELF_MANAGE, _P.DASHBOARD_READ, _P.POLICY_READ}
_OFFICER = _EVERYBODY | {_P.GOVERNANCE_READ, _P.TRANSPARENCY_READ, _P.AUDIT_READ, _P.AUDIT_EXPORT}
_MODERATOR = _EVERYBODY | {
    _P.CASE_READ,
    _P.CASE_DECIDE,
    _P.MEDIA_REVEAL,
    _P.ITEM_READ,
    _P.AUTHOR_READ,
    _P.AUTHOR_ACT,
    _P.APPEAL_DECIDE,
    _P.BANK_READ,
    _P.BANK_ADD,
}
_LEAD = _MODERATOR | {
    _P.CASE_ADJUDICATE,
    _P.CASE_ASSIGN,
    _P.AUTHOR_BAN,
    _P.DECISION_REVERSE,
    _P.QUALITY_READ,
    _P.QUALITY_MANAGE,
    _P.BANK_MANAGE,
    _P.POLICY_PUBLISH,
    _P.MODEL_READ,
    _P.MODEL_PROMOTE,
    _P.PEOPLE_READ,
    _P.GOVERNANCE_READ,
    _P.TRANSPARENCY_READ,
    _P.MINOR_READ,
    _P.MINOR_DECIDE,
}

GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.MODERATOR: frozenset(_MODERATOR),
    Role.LEAD: frozenset(_LEAD),
    Role.TRAINER: frozenset(_EVERYBODY | {_P.QUALITY_READ, _P.LABEL_EXPORT, _P.MODEL_READ, _P.MODEL_PROPOSE}),
    # Answers for what is kept of people and how it ends.
    Role.PRIVACY_OFFICER: frozenset(
        _OFFICER
        | {
            _P.ITEM_READ,
            _P.AUTHOR_READ,
            _P.REPORT_SIGN,
            _P.HOLD_READ,
            _P.HOLD_APPROVE,
            _P.ERASURE_RUN,
            _P.SUBJECT_READ,
            _P.SUBJECT_HANDLE,
            _P.MINOR_READ,
            _P.MINOR_DECIDE,
            _P.PARTNER_READ,
            _P.INCIDENT_READ,
            _P.INCIDENT_MANAGE,
        }
    ),
    # Answers to authorities.
    Role.LEGAL: frozenset(
        _OFFICER
        | {
            _P.ITEM_READ,
            _P.AUTHOR_READ,
            _P.HOLD_READ,
            _P.HOLD_REQUEST,
            _P.HOLD_APPROVE,
            _P.EVIDENCE_READ,
            _P.PARTNER_READ,
            _P.PARTNER_MANAGE,
            _P.INCIDENT_READ,
        }
    ),
    Role.AUDITOR: frozenset(
        _OFFICER
        | {
            _P.QUALITY_READ,
            _P.BANK_READ,
            _P.MODEL_READ,
            _P.REPORT_SIGN,
            _P.HOLD_READ,
            _P.SUBJECT_READ,
            _P.PARTNER_READ,
            _P.INCIDENT_READ,
        }
    ),
    # Administers people and keys, and sees no content for it.
    Role.ADMIN: frozenset(
        _EVERYBODY
        | {
            _P.PEOPLE_READ,
            _P.PEOPLE_MANAGE,
            _P.KEY_MANAGE,
            _P.AUDIT_READ,
            _P.POLICY_PUBLISH,
            _P.BANK_READ,
            _P.MODEL_READ,
            _P.MODEL_PROPOSE,
            _P.MODEL_PROMOTE,
            _P.GOVERNANCE_READ,
            _P.TRANSPARENCY_READ,
            _P.INCIDENT_READ,
            _P.INCIDENT_MANAGE,
        }
    ),
}


def granted(roles: Collection[str]) -> frozenset[Permission]:
    """Every permission that one of `roles` carries; a role unknown to us carries none."""
    known = [Role(role) for role in roles if role in set(Role)]
    return frozenset().union(*(GRANTS[role] for role in known))
