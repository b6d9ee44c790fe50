"""What somebody has besides a password: a code that changes, a passkey, or a recovery code on paper.

Each proves itself once: a TOTP code by the last step used (RFC 6238, section 5.2), a passkey by a challenge kept
with the session, a recovery code by its mark.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pyotp
import webauthn
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from webauthn.helpers import exceptions, structs
from webauthn.helpers.base64url_to_bytes import base64url_to_bytes
from webauthn.helpers.bytes_to_base64url import bytes_to_base64url

from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit
from moderation.governance.people import get
from moderation.storage.ids import new_id
from moderation.storage.tables import Passkey, Person, PersonSession, RecoveryCode
from moderation.storage.vault import Vault

ISSUER = "Moderation"
STEP_SECONDS = 30
WINDOW = 1  # steps before and after: clocks differ
RECOVERY_CODES = 10
MOST_PASSKEYS = 10
NAME_LENGTH = 60
# Crockford's: no letter that looks like a digit.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LOOKS_LIKE = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Whom a passkey is for: the console's host name and origin."""

    id: str
    origin: str


@dataclass(frozen=True, slots=True)
class PasskeyView:
    """A passkey as its owner sees it."""

    id: UUID
    name: str
    created_at: datetime
    used_at: datetime | None


def proposed_secret(vault: Vault, *of: str) -> str:
    """A TOTP secret that the same invitation or session is offered again when its page is loaded again."""
    return base64.b32encode(vault.digest("totp_enrolment", *of)[:20]).decode()


def uri(secret: str, email: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def enrol_totp(session: Session, vault: Vault, person: Person, secret: str, code: str, now: datetime) -> None:
    """Have a person's codes come from `secret`, which the first code proves they hold.

    Raises:
        InvalidInput: the code is not the secret's.
    """
    step = _step_of(secret, code, now)
    if step is None:
        raise InvalidInput(
            "This code does not belong to the secret shown; check that the clock of your device is right.",
            code="wrong_code",
        )
    sealed = vault.account_key().encrypt(secret.encode(), "people", "totp_secret", str(person.id))
    person.totp_secret, person.totp_step = sealed, step
    session.flush()
    _record(session, person.id, "totp_enrolled", now)


def remove_totp(session: Session, person_id: UUID, now: datetime) -> None:
    """Go without codes, where there is a passkey.

    Raises:
        Conflict: there would be no second factor left.
    """
    person = _locked(session, person_id)
    if not has_passkey(session, person_id):
        raise Conflict("This is your only second factor; add a passkey first.", code="last_factor")
    person.totp_secret = None
    session.flush()
    _record(session, person_id, "totp_removed", now)


def check_totp(session: Session, vault: Vault, person_id: UUID, code: str, now: datetime) -> bool:
    """Whether a code is right and was not used before; it is used now."""
    person = session.get_one(Person, person_id)
    if person.totp_secret is None:
        return False
    secret = vault.account_key().decrypt(person.totp_secret, "people", "totp_secret", str(person_id)).decode()
    step = _step_of(secret, code, now)
    if step is None:
        return False
    # The database decides who was first.
    used = session.scalar(
        update(Person)
        .where(Person.id == person_id, Person.totp_step < step)
        .values(totp_step=step)
        .returning(Person.id)
    )
    return used is not None


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is."""
    digits = "".join(code.split())
    totp, here = pyotp.TOTP(secret), int(now.timestamp()) // STEP_SECONDS
    found = None
    for step in range(here - WINDOW, here + WINDOW + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), digits.encode()):
            found = step
    return found


def issue_recovery_codes(session: Session, vault: Vault, person_id: UUID, now: datetime) -> tuple[str, ...]:
    """Ten codes that each stand in for the second factor once; earlier ones are nothing any more."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person_id))
    codes = tuple(
        "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(2))
        for _ in range(RECOVERY_CODES)
    )
    session.add_all(
        RecoveryCode(digest=_recovery_digest(vault, person_id, code), person_id=person_id) for code in codes
    )
    session.flush()
    _record(session, person_id, "recovery_codes_issued", now)
    return codes


def check_recovery_code(session: Session, vault: Vault, person_id: UUID, code: str, now: datetime) -> bool:
    """Whether a recovery code is one of the person's and unused; it is used now."""
    used = session.scalar(
        update(RecoveryCode)
        .where(
            RecoveryCode.digest == _recovery_digest(vault, person_id, code),
            RecoveryCode.person_id == person_id,
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=now)
        .returning(RecoveryCode.person_id)
    )
    if used is None:
        return False
    _record(session, person_id, "recovery_code_used", now)
    return True


def recovery_codes_left(session: Session, person_id: UUID) -> int:
    """How many were not used."""
    unused = (RecoveryCode.person_id == person_id, RecoveryCode.used_at.is_(None))
    return session.scalar(select(func.count()).select_from(RecoveryCode).where(*unused)) or 0


def _recovery_digest(vault: Vault, person_id: UUID, code: str) -> bytes:
    plain = "".join(code.upper().replace("-", "").split()).translate(LOOKS_LIKE)
    return vault.digest("recovery", str(person_id), plain)


def check_code(session: Session, vault: Vault, person_id: UUID, code: str, now: datetime) -> bool:
    """Whether this is a code of the authenticator app, or a recovery code, that was not used before."""
    plain = "".join(code.split())
    if plain.isdecimal() and len(plain) == 6:
        return check_totp(session, vault, person_id, plain, now)
    return check_recovery_code(session, vault, person_id, plain, now)


def passkeys(session: Session, person_id: UUID) -> list[PasskeyView]:
    """A person's passkeys, oldest first."""
    rows = session.scalars(select(Passkey).where(Passkey.person_id == person_id).order_by(Passkey.id))
    return [PasskeyView(row.id, row.name, row.created_at, row.used_at) for row in rows]


def has_passkey(session: Session, person_id: UUID) -> bool:
    """Whether there is at least one."""
    return session.scalar(select(Passkey.id).where(Passkey.person_id == person_id).limit(1)) is not None


def offer_registration(
    session: Session, vault: Vault, session_id: UUID, person_id: UUID, email: str, party: RelyingParty
) -> str:
    """The options of `navigator.credentials.create`, as JSON; its challenge waits with the session."""
    options = webauthn.generate_registration_options(
        rp_id=party.id,
        rp_name=ISSUER,
        user_name=email,
        user_id=person_id.bytes,
        exclude_credentials=_descriptors(session, vault, person_id),
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.PREFERRED,
            user_verification=structs.UserVerificationRequirement.PREFERRED,
        ),
    )
    _keep_challenge(session, vault, session_id, options.challenge)
    return webauthn.options_to_json(options)


def register_passkey(
    session: Session,
    vault: Vault,
    session_id: UUID,
    person_id: UUID,
    credential: str,
    name: str,
    party: RelyingParty,
    now: datetime,
) -> UUID:
    """Take a new passkey in.

    Raises:
        InvalidInput: it does not answer our challenge, or has no name.
        Conflict: there are too many, or it is known already.
    """
    wanted = " ".join(name.split())
    if not 1 <= len(wanted) <= NAME_LENGTH:
        raise InvalidInput(f"Give the passkey a name of 1 to {NAME_LENGTH} characters.")
    if len(passkeys(session, person_id)) >= MOST_PASSKEYS:
        raise Conflict(f"You have {MOST_PASSKEYS} passkeys; remove one first.")
    challenge = _take_challenge(session, vault, session_id)
    try:
        proved = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge or b"",
            expected_rp_id=party.id,
            expected_origin=party.origin,
        )
    except _REFUSED as error:
        raise InvalidInput("The passkey could not be verified; try again.", code="passkey_refused") from error
    digest = vault.digest("passkey", proved.credential_id)
    if session.scalar(select(Passkey.id).where(Passkey.credential_digest == digest)) is not None:
        raise Conflict("This passkey is known already.")
    identifier = new_id(now)
    kept = json.dumps(
        {
            "id": bytes_to_base64url(proved.credential_id),
            "key": bytes_to_base64url(proved.credential_public_key),
        }
    )
    session.add(
        Passkey(
            id=identifier,
            person_id=person_id,
            credential_digest=digest,
            credential=vault.account_key().encrypt(kept.encode(), "passkeys", "credential", str(identifier)),
            sign_count=proved.sign_count,
            name=wanted,
            created_at=now,
        )
    )
    session.flush()
    _record(session, person_id, "passkey_added", now)
    return identifier


def offer_authentication(
    session: Session, vault: Vault, session_id: UUID, person_id: UUID, party: RelyingParty
) -> str | None:
    """The options of `navigator.credentials.get`, as JSON; None without a passkey."""
    allowed = _descriptors(session, vault, person_id)
    if not allowed:
        return None
    options = webauthn.generate_authentication_options(
        rp_id=party.id,
        allow_credentials=allowed,
        user_verification=structs.UserVerificationRequirement.PREFERRED,
    )
    _keep_challenge(session, vault, session_id, options.challenge)
    return webauthn.options_to_json(options)


def check_passkey(
    session: Session,
    vault: Vault,
    session_id: UUID,
    person_id: UUID,
    credential: str,
    party: RelyingParty,
    now: datetime,
) -> bool:
    """Whether one of the person's passkeys signed this session's challenge, which is used up by asking."""
    challenge = _take_challenge(session, vault, session_id)
    row, key = _named(session, vault, person_id, credential)
    if challenge is None or row is None:
        return False
    try:
        proved = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=key,
            credential_current_sign_count=row.sign_count,
        )
    except _REFUSED:
        return False
    row.sign_count, row.used_at = proved.new_sign_count, now
    session.flush()
    return True


def remove_passkey(session: Session, person_id: UUID, passkey_id: UUID, now: datetime) -> None:
    """Take a passkey out.

    Raises:
        NotFound: the person has no such passkey.
        Conflict: there would be no second factor left.
    """
    person = _locked(session, person_id)
    if person.totp_secret is None and len(passkeys(session, person_id)) == 1:
        raise Conflict(
            "This is your only second factor; set up an authenticator app first.", code="last_factor"
        )
    gone = session.scalar(
        delete(Passkey).where(Passkey.id == passkey_id, Passkey.person_id == person_id).returning(Passkey.id)
    )
    if gone is None:
        raise NotFound("You have no such passkey.")
    _record(session, person_id, "passkey_removed", now)


def _locked(session: Session, person_id: UUID) -> Person:
    """The person, locked: two removals at once must not each count on what the other takes away."""
    get(session, person_id)
    query = select(Person).where(Person.id == person_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()


def forget_all(session: Session, person: Person) -> None:
    """Take every second factor away, to be set up again before the next log-in."""
    session.execute(delete(Passkey).where(Passkey.person_id == person.id))
    session.execute(delete(RecoveryCode).where(RecoveryCode.person_id == person.id))
    person.totp_secret = None
    session.flush()


# The last two: what a browser would never send, and somebody else might.
_REFUSED = (
    exceptions.WebAuthnException,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


def _named(session: Session, vault: Vault, person_id: UUID, credential: str) -> tuple[Passkey | None, bytes]:
    """The passkey that a browser's answer names, and its public key."""
    named = b""
    with suppress(*_REFUSED):
        named = base64url_to_bytes(json.loads(credential)["id"])
    row = session.scalar(
        select(Passkey)
        .where(Passkey.person_id == person_id, Passkey.credential_digest == vault.digest("passkey", named))
        .with_for_update()
    )
    return row, base64url_to_bytes(_opened(vault, row)["key"]) if row else b""


def _descriptors(
    session: Session, vault: Vault, person_id: UUID
) -> list[structs.PublicKeyCredentialDescriptor]:
    rows: Sequence[Passkey] = session.scalars(select(Passkey).where(Passkey.person_id == person_id)).all()
    return [
        structs.PublicKeyCredentialDescriptor(id=base64url_to_bytes(_opened(vault, row)["id"]))
        for row in rows
    ]


def _opened(vault: Vault, row: Passkey) -> dict[str, str]:
    plain = vault.account_key().decrypt(row.credential, "passkeys", "credential", str(row.id))
    return dict(json.loads(plain))


def _keep_challenge(session: Session, vault: Vault, session_id: UUID, challenge: bytes) -> None:
    sealed = vault.account_key().encrypt(challenge, "person_sessions", "challenge", str(session_id))
    session.execute(update(PersonSession).where(PersonSession.id == session_id).values(challenge=sealed))


def _take_challenge(session: Session, vault: Vault, session_id: UUID) -> bytes | None:
    """The challenge that waits with the session, which is gone with that."""
    row = session.scalar(select(PersonSession).where(PersonSession.id == session_id).with_for_update())
    if row is None or row.challenge is None:
        return None
    challenge = vault.account_key().decrypt(row.challenge, "person_sessions", "challenge", str(session_id))
    row.challenge = None
    session.flush()
    return challenge


def _record(session: Session, person_id: UUID, what: str, now: datetime) -> None:
    event = audit.Event(f"person:{person_id}", f"person.{what}", "person", str(person_id))
    audit.record(session, [event], now)
