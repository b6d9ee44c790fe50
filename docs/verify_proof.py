"""Check a proof from Moderation's audit log: python verify_proof.py PROOF.json KEY. Needs only `cryptography`."""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def canonical(document: dict) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def need(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)


def signed(note: str, key: str) -> tuple[int, bytes]:
    """Size and root of a checkpoint that KEY signed (C2SP signed note, Ed25519)."""
    text, _, line = note.rpartition("\n\n")
    origin, size, root = text.split("\n")[:3]
    name, _, encoded = key.strip().split("+", 2)
    need(line.startswith(f"\u2014 {name} ") and origin == name, "the checkpoint is another log's")
    signature = base64.b64decode(line.split(" ")[2])[4:]
    Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:]).verify(signature, f"{text}\n".encode())
    return int(size), base64.b64decode(root)


def climb(at: int, last: int, old: bytes, new: bytes, path: list[bytes]) -> tuple[bytes, bytes]:
    """RFC 9162, 2.1.3.2 and 2.1.4.2: from node `at` of a row that ends at `last` up to the roots."""
    for sibling in path:
        need(last > 0, "the proof is too long")
        if at % 2 or at == last:
            old, new = sha256(b"\x01", sibling, old), sha256(b"\x01", sibling, new)
            while at and at % 2 == 0:
                at, last = at // 2, last // 2
        else:
            new = sha256(b"\x01", new, sibling)
        at, last = at // 2, last // 2
    need(last == 0, "the proof is too short")
    return old, new


def check(proof: dict, key: str) -> str:
    size, root = signed(proof["checkpoint"], key)
    path = [bytes.fromhex(value) for value in proof["proof"]]
    if "old" in proof:
        before, old = signed(proof["old"], key)
        need(0 < before <= size, "the log became shorter")
        path = [old, *path] if before & (before - 1) == 0 or before == size else path
        shift = size.bit_length() if before == size else (before & -before).bit_length() - 1
        found = climb((before - 1) >> shift, (size - 1) >> shift, path[0], path[0], path[1:])
        need(found == (old, root), "what was signed first is not the beginning of what was signed last")
        return f"The log of {size} events begins with the log of {before} events."
    event, index = proof["event"], proof["index"]
    if proof["salt"] is not None:
        commitment = sha256(bytes.fromhex(proof["salt"]), canonical(proof["details"]))
        need(commitment.hex() == event["commitment"], "the details are not those that were recorded")
    leaf = sha256(b"\x00", canonical(event))
    need(0 <= index < size, "the log is shorter than that")
    need(
        climb(index, size - 1, leaf, leaf, path)[1] == root, "the log that was signed has no such event there"
    )
    return f"Event {index} of {size} is in the log: {json.dumps(event | {'details': proof['details']})}"


if __name__ == "__main__":
    try:
        print(check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]))
    except Exception as error:
        sys.exit(f"NOT proved: {error or type(error).__name__}")
