"""Signatures of the service: Ed25519 under the service key `signing`.

Every signature is over its purpose too, so that one document's can't be passed off as another's. What is
signed is the canonical form of a document; who has the public key needs nothing else of ours to check it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from moderation.storage.vault import Vault

# Made once: `json.dumps` would make one for every event of the audit log.
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one form of `document` that is hashed and signed: JSON in UTF-8, sorted keys, no spaces.

    Raises:
        ValueError: NaN or an infinity, which JSON has no word for; text that is no Unicode.
        TypeError: a value that JSON does not have.
    """
    return _encoder.encode(document).encode()


def sign(vault: Vault, purpose: str, data: bytes) -> str:
    """A signature over `purpose` and `data`, in base64."""
    return base64.b64encode(private_key(vault).sign(_bound(purpose, data))).decode()


def public_key(vault: Vault) -> str:
    """The key that checks our signatures: 32 bytes in base64."""
    return base64.b64encode(private_key(vault).public_key().public_bytes_raw()).decode()


def verify(public_key: str, purpose: str, data: bytes, signature: str) -> bool:
    """Whether `signature` is the key's over `purpose` and `data`; False for anything that is no signature."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), _bound(purpose, data))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def private_key(vault: Vault) -> Ed25519PrivateKey:
    """The key itself, for forms of signature that are not ours to choose (a log's signed notes)."""
    return Ed25519PrivateKey.from_private_bytes(vault.signing_seed())


def _bound(purpose: str, data: bytes) -> bytes:
    return purpose.encode() + b"\x00" + data
