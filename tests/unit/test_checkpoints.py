"""Checkpoints as signed notes: the published example, and what is no note."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from moderation.governance import checkpoints, signing
from moderation.governance.checkpoints import NoteInvalid

# The example of the specification of signed notes and its key.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
AT = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
MADE = checkpoints.sign(KEY, 42, bytes(range(32)), AT)
OURS = checkpoints.key_of(KEY)


def test_the_published_note_opens_with_the_published_key():
    key = checkpoints.read_key(FOO)
    assert (key.name, key.id.hex(), str(key)) == ("example.com/foo", "530d903a", FOO)
    assert checkpoints.opened(key, NOTE) == "This is an example message.\n"
    with pytest.raises(NoteInvalid, match="signature is wrong"):
        checkpoints.opened(key, NOTE.replace("message", "massage"))
    with pytest.raises(NoteInvalid, match="not signed by"):
        checkpoints.opened(OURS, NOTE)
    with pytest.raises(NoteInvalid, match="not a checkpoint"):
        checkpoints.read(key, NOTE)


def test_a_checkpoint_reads_back():
    assert checkpoints.read(OURS, MADE.note) == MADE
    assert MADE.note.split("\n")[0] == OURS.name
    assert checkpoints.size_of(MADE.note) == 42
    assert checkpoints.read_key(str(OURS)) == OURS
    cosigned = MADE.note + NOTE.rpartition("\n\n")[2]
    assert checkpoints.read(OURS, cosigned).size == 42, "a witness may sign too"


@pytest.mark.parametrize("place", range(0, len(MADE.note), 3))
def test_no_altered_note_is_read(place):
    for letter in "A0\n":
        altered = MADE.note[:place] + letter + MADE.note[place + 1 :]
        if altered == MADE.note:
            continue
        try:
            found = checkpoints.read(OURS, altered)
        except NoteInvalid:
            continue
        # The last letters of base64 carry bits that say nothing.
        assert (found.size, found.root, found.at) == (MADE.size, MADE.root, MADE.at)


@pytest.mark.parametrize(
    "key", ["", "x", "a+b+c", FOO[:-1], FOO.replace("530d", "530e"), "name+00000000+AAAA", "++"], ids=repr
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(NoteInvalid, match="public key"):
        checkpoints.read_key(key)


@pytest.mark.parametrize(
    "note",
    ["", "\n\n", "a\n\nb\n", "a\n\n\u2014 b\n", "a\n\n\u2014 b c\n", "a\n\n\u2014 b A\u00e9\n"],
    ids=repr,
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(NoteInvalid):
        checkpoints.opened(OURS, note)


def test_files_of_notes_are_split():
    assert list(checkpoints.split("")) == list(checkpoints.split("\n\n")) == []
    assert list(checkpoints.split(MADE.note * 2)) == [MADE.note] * 2
    assert list(checkpoints.split(f"\n{MADE.note}\n\n{MADE.note}\n\n")) == [MADE.note] * 2
    with pytest.raises(NoteInvalid, match="in the middle"):
        list(checkpoints.split(MADE.note + "more\n"))


class _Vault:
    def signing_seed(self):
        return bytes(32)


def test_a_signature_is_over_its_purpose_too():
    data = signing.canonical({"b": 1, "a": "\u00fc"})
    assert data == '{"a":"\u00fc","b":1}'.encode()
    made, key = signing.sign(_Vault(), "receipt", data), signing.public_key(_Vault())
    assert signing.verify(key, "receipt", data, made)
    for wrong in (
        signing.verify(key, "report", data, made),
        signing.verify(key, "receipt", data + b" ", made),
        signing.verify(key, "receipt", data, made[:-4] + "AAA="),
        signing.verify(key, "receipt", data, "no base64"),
        signing.verify("AAAA", "receipt", data, made),
        signing.verify("", "receipt", data, ""),
    ):
        assert not wrong
