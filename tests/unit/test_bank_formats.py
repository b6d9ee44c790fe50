"""Lists of what banks hold in every shape: as exchanges print them, as people write them, and as nobody should."""

from __future__ import annotations

import io
import json
import tracemalloc
from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.errors import InvalidInput
from moderation.domain.signals import BankKind
from moderation.governance import bank_export, bank_feeds, bank_formats, bank_json
from moderation.governance.bank_formats import Bad, Foreign, Format, Read, Record

# Published with the algorithm, of a photograph of a bridge.
BRIDGE = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
OTHER = "e64cc9d91c623882f8d1f1d9a398e78c9f199b3bd83924f2b7e11e0bf861b064"
SHA = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def read(
    data: str | bytes, shape: Format | None = None, kind: BankKind = BankKind.IMAGE, size: int = 65_536
) -> list[Read]:
    """The records of a list, as those of its format or of what it looks like."""
    source = io.BufferedReader(io.BytesIO(data if isinstance(data, bytes) else data.encode()), size)  # type: ignore[arg-type]
    return list(bank_feeds.read(source, shape or bank_feeds.looks_like(source.peek(bank_json.HEAD)), kind))


def values(found: list[Read]) -> list[tuple[int, str, str | None]]:
    assert all(isinstance(one, Record) for one in found), found
    return [(one.line, one.value, one.form) for one in found if isinstance(one, Record)]


# ---- our own ----------------------------------------------------------------------------------------------


def test_a_plain_list() -> None:
    found = read("\ufeff# of May\r\nprizes.example\r\n\r\n  docs.example, and more \n", kind=BankKind.LINK)
    assert values(found) == [(2, "prizes.example", None), (4, "docs.example, and more", None)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_in_any_order_with_any_delimiter(delimiter: str) -> None:
    lines = [
        ["Note", "HASH", "Type", "whatever", "Expires", "verified", "category", "source"],
        ['"of May, or June; the\tlist"', BRIDGE, "PDQ", "x", "2027-01-31", "yes", "spam", "others"],
        ["", SHA.upper(), "sha-256", "", "2027-01-31T10:00:00+02:00", "0", "", ""],
        ["", SHA, "sha256"],
    ]
    first, second, third = read("\ufeff" + "\r\n".join(delimiter.join(line) for line in lines))
    assert first == Record(
        2, BRIDGE, "pdq", category="spam", note="of May, or June; the list", source="others", verified=True,
        expires_at=datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC),
    )  # fmt: skip
    assert second == Record(3, SHA, "sha256", verified=False, expires_at=datetime(2027, 1, 31, 8, tzinfo=UTC))
    assert third == Record(4, SHA, "sha256")


def test_csv_says_what_is_wrong_with_a_line_and_goes_on() -> None:
    said = read(
        f"hash,type,expires,verified\n{BRIDGE},pdq,soon,\n{BRIDGE},pdq,,perhaps\n{BRIDGE[:-1]},pdq,,\n,pdq,,\n"
        f'{"0" * 64},pdq,,\n{BRIDGE},pdq,,,,\n"{BRIDGE}"x,pdq,,\n\n{BRIDGE},pdq,,\n"never closed,pdq\n'
    )
    assert [(one.line, type(one).__name__) for one in said] == [
        *((line, "Bad") for line in range(2, 9)), (10, "Record"), (11, "Bad")
    ]  # fmt: skip
    assert all(BRIDGE[:8] not in one.why for one in said if isinstance(one, Bad)), "a line is never repeated"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("value,hash\na,b\n", "Two columns"),
        ("note,type\na,b\n", "no column"),
        (b"\xff\xfev\x00a\x00l\x00", "UTF-16"),
        (b"v\x00a\x00l\x00u\x00", "UTF-16"),
        (b"value,\xff\na,b\n" * 2, "no UTF-8"),
    ],
)
def test_csv_that_can_not_be_read_at_all(text: str | bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(text, Format.CSV)


def test_json_lines() -> None:
    said = read(
        json.dumps({"value": "weather balloon", "form": "literal", "verified": True, "of": "others"})
        + '\n\n{"value": "half \\ud800"}\n{"value"\n[1]\n{"value": ["x"]}\n{"note": "x"}\n'
        + f"{'[' * 200_000}\n"
    )
    assert said[0] == Record(1, "weather balloon", "literal", verified=True)
    assert [one.line for one in said[1:] if isinstance(one, Bad)] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("shape", [Format.CSV, Format.JSONL])
def test_what_we_write_we_read(shape: Format) -> None:
    records = [
        Record(1, 'a, "quoted"; term', "literal", note="=1+1", category="spam", verified=False),
        Record(2, "+49 30 901820", "phone", expires_at=datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)),
        Record(3, SHA, "sha256", source="ncmec", reference="42/x", pdq=(BRIDGE, OTHER), phash="0f" * 8),
        Record(4, SHA, "digest", sketch=bytes(range(256)) * 2, verified=True),
        Record(5, "čaj s mlékem\u200d", None),
    ]
    written = "".join(bank_export.written(records, shape))
    offset = 1 if shape is Format.CSV else 0
    again = read(written)
    assert [(one.line - offset, one) for one in again] == [
        (record.line, bank_formats.replace(record, line=record.line + offset)) for record in records
    ]


def test_pictures_are_known_by_two_hashes_and_no_other() -> None:
    def told(value: str, form: str | None = None, own: str | None = None) -> Read:
        return bank_formats.of_picture(Record(7, value, own), form)

    assert told(BRIDGE, "pdq") == Record(7, BRIDGE, "pdq")
    assert told(SHA.upper(), own="HASH_SHA256") == Record(7, SHA, "sha256")
    assert told("a" * 32) == Foreign(7, "md5")
    assert told("a" * 40) == Foreign(7, "sha1")
    assert told("anything", own="PhotoDNA") == Foreign(7, "PhotoDNA")
    assert isinstance(two := told(BRIDGE), Bad)
    assert "SHA-256 or PDQ" in two.why
    assert isinstance(told("prizes.example"), Bad)


# ---- NCMEC ------------------------------------------------------------------------------------------------

# The shape of the reference client's own tests, with a PDQ hash.
NCMEC = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">
    <images count="2" maxTimestamp="2017-10-24T15:10:00Z">
        <image>
            <member id="42">Example Member</member>
            <timestamp>2017-10-24T15:00:00Z</timestamp>
            <id>image1</id>
            <classification>A1</classification>
            <fingerprints>
                <md5>a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1</md5>
                <pdna>a1a1a1a1</pdna>
                <pdq>{BRIDGE}</pdq>
            </fingerprints>
            <feedback lastUpdateTimestamp="2023-06-01T12:48:14Z">
                <negativeFeedback type="Pdq"><reasons><reason name="x"/></reasons></negativeFeedback>
            </feedback>
        </image>
        <deletedImage>
            <member id="43">Example Member2</member>
            <id>image4</id>
            <timestamp>2017-10-24T15:10:00Z</timestamp>
        </deletedImage>
    </images>
    <videos count="1" maxTimestamp="2017-10-24T15:20:00Z">
        <video>
            <member id="42">Example Member</member>
            <id>video1</id>
            <fingerprints><md5>b1b1</md5><tmk-pdqf rel="self" href="/v2/x"/></fingerprints>
        </video>
    </videos>
    <paging><next>/v2/entries?from=2017&amp;to=2018</next></paging>
</queryResult>"""


@pytest.mark.parametrize("size", [7, 65_536])
def test_ncmec(size: int) -> None:
    assert bank_feeds.looks_like(NCMEC.encode()) is Format.NCMEC
    said = read(NCMEC, Format.NCMEC, size=size)
    assert said == [
        Foreign(4, "md5"),
        Foreign(4, "pdna"),
        Record(4, BRIDGE, "pdq", note="A1; entry 42/image1; disputed", reference="42/image1"),
        Record(18, "", reference="43/image4", gone=True),
        Foreign(25, "video md5"),
        Foreign(25, "video tmk-pdqf"),
    ]


def test_ncmec_as_json() -> None:
    entry = {"id": "image1", "member": {"id": 42}, "fingerprints": {"pdq": BRIDGE, "sha1": "a1"}}
    said = read(json.dumps({"images": [entry, {"id": "x", "member": 7, "deleted": True}, {}]}, indent=1))
    assert [type(one) for one in said] == [Record, Foreign, Record, Bad]
    assert said[2] == Record(said[2].line, "", reference="7/x", gone=True)


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;">]><queryResult><images>&b;</images></queryResult>'
)


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (LAUGHS, "document type"),
        ('<?xml version="1.0" encoding="utf-7"?><queryResult/>', "encoding"),
        ('<?xml version="1.0" encoding="none-such"?><queryResult/>', "encoding"),
        ('<!DOCTYPE queryResult SYSTEM "file:///etc/passwd"><queryResult/>', "document type"),
        ("<html><body/></html>", "no <queryResult>"),
        ("<queryResult>" + "<a>" * 100, "nested"),
        (NCMEC[:-20], "no XML from line 31"),
        (NCMEC.replace("&amp;", "&own;"), "no XML"),
        ("<queryResult>\x00", "no XML"),
        ("", "no XML"),
    ],
)
def test_xml_that_is_not_what_it_should_be(xml: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read("<" + xml[1:] if xml else "< ", Format.NCMEC)


# ---- StopNCII ---------------------------------------------------------------------------------------------


def case(value: str, status: str = "Active", signal: str = "ImagePDQ", **more: object) -> dict[str, object]:
    return {
        "lastModtimestamp": 1625167804, "hashValue": value, "hashStatus": status,
        "caseNumbers": {"27664732-76e1": status, "bd2bff7c": status}, "signalType": signal, **more,
    }  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [7, 65_536])
def test_stopncii(indent: int | None, size: int) -> None:
    pages = [
        {"count": 3, "hasMoreRecords": True, "hashRecords": [
            case(BRIDGE, CSPFeedbacks=[{"source": "x", "feedbackValue": "NotBlocked", "tags": []}]),
            case(OTHER, "Withdrawn"), case("a1" * 16, signal="VideoMD5"),
        ]},
        {"count": 1, "hashRecords": [case("nothing", caseNumbers=[]), 5], "nextPageToken": None},
    ]  # fmt: skip
    text = "\n".join(json.dumps(page, indent=indent) for page in pages)
    assert bank_feeds.looks_like(text.encode()) is Format.STOPNCII
    said = read(text, Format.STOPNCII, size=size)
    note = "case 27664732-76e1 and 1 more; Active; disputed"
    assert said[0] == Record(said[0].line, BRIDGE, "pdq", note=note)
    assert isinstance(said[1], Record)
    assert (said[1].value, said[1].gone) == (OTHER, True)
    assert said[2] == Foreign(said[2].line, "videomd5")
    assert [type(one) for one in said[3:]] == [Bad, Bad]


def test_stopncii_as_csv() -> None:
    said = read(
        f"hashValue,signalType,hashStatus,caseNumbers\n{BRIDGE},ImagePDQ,Received,a-1 b-2\n"
        f"{OTHER},ImagePDQ,Deleted,\n"
    )
    assert said[0] == Record(2, BRIDGE, "pdq", note="case a-1 and 1 more; Received")
    assert isinstance(said[1], Record)
    assert said[1].gone


# ---- ThreatExchange ---------------------------------------------------------------------------------------


def indicator(
    number: int, value: str, type_: str = "HASH_PDQ", *statuses: str, **more: object
) -> dict[str, object]:
    tags = {"data": [{"id": "9", "text": "spam"}, {"id": "8", "text": "pwny\u0007"}]}
    data = [{"id": "5", "owner": {"id": "3"}, "status": one, "tags": tags} for one in statuses]
    return {
        "id": str(number), "indicator": value, "type": type_, "last_updated": 1, "should_delete": False,
        **({"descriptors": {"data": data}} if data else {}), **more,
    }  # fmt: skip


def test_threat_updates() -> None:
    answer = {
        "data": [
            indicator(1, BRIDGE, "HASH_PDQ", "MALICIOUS", "NON_MALICIOUS"),
            indicator(2, SHA, "HASH_SHA256", "MALICIOUS"),
            indicator(3, BRIDGE, "HASH_PDQ", "NON_MALICIOUS"),
            indicator(4, BRIDGE, "HASH_PDQ", "MALICIOUS", should_delete=True),
            indicator(5, BRIDGE),
            indicator(6, "a1" * 16, "HASH_MD5", "MALICIOUS"),
            indicator(7, "prizes.example", "DOMAIN", "MALICIOUS"),
            indicator(8, "zz", "HASH_PDQ", "MALICIOUS"),
            {"id": "9", "descriptors": 5},
        ],
        "paging": {"next": "…"},
    }
    for shape in (answer, {"threat_updates": answer, "id": "1"}):
        said = read(json.dumps(shape))
        assert [type(one) for one in said] == [*[Record] * 5, Foreign, Foreign, Bad, Bad]
        taken = [one for one in said if isinstance(one, Record)]
        assert [(one.form, one.reference, one.gone) for one in taken] == [
            ("pdq", "1", False), ("sha256", "2", False), ("pdq", "3", True), ("pdq", "4", True), ("pdq", "5", True)
        ]  # fmt: skip
        assert [one.note for one in taken[:2]] == ["spam, pwny; disputed", "spam, pwny"]
    lines = "\n".join(json.dumps(one) for one in answer["data"]) + "\nbroken\n"
    assert [one.line for one in read(lines, Format.THREATEXCHANGE)] == list(range(1, 11))
    (link,) = [one for one in read(json.dumps(answer), kind=BankKind.LINK) if isinstance(one, Record)]
    assert (link.value, link.form) == ("prizes.example", "host")


def test_a_descriptor_on_its_own() -> None:
    one = {
        "raw_indicator": BRIDGE,
        "type": "HASH_PDQ",
        "owner": {"id": "1"},
        "status": "MALICIOUS",
        "tags": ["a"],
    }
    other = {
        "indicator": {"id": "1", "indicator": SHA, "type": "HASH_SHA256"},
        "status": "SUSPICIOUS",
        "id": 5,
    }
    video = indicator(6, SHA, "HASH_SHA256", "MALICIOUS")
    video["descriptors"]["data"][0]["tags"] = ["media_type_video"]  # type: ignore[index]
    said = read("\n".join(map(json.dumps, (one, other, video))))
    assert said == [
        Record(1, BRIDGE, "pdq", note="a"),
        Record(2, SHA, "sha256", reference="5"),
        Foreign(3, "video hash_sha256"),
    ]


def test_what_the_reference_client_prints() -> None:
    text = (
        "signal_type,signal_str,collab,category,tags\n"
        f'pdq,{BRIDGE},"Sample, Data",POSITIVE_CLASS,a b\npdq,{OTHER},Sample,DISPUTED,\n'
        f"pdq,{OTHER},Sample,NEGATIVE_CLASS,\nvideo_md5,a1,Sample,POSITIVE_CLASS,\nraw_text,hello,S,POSITIVE_CLASS,\n"
    )
    assert read(text) == [
        Record(2, BRIDGE, "pdq", note="a b; Sample, Data"),
        Record(3, OTHER, "pdq", note="disputed; Sample"),
        Record(4, OTHER, "pdq", note="Sample", gone=True),
        Foreign(5, "video_md5"),
        Foreign(6, "raw_text"),
    ]
    assert [one.value for one in read(text, kind=BankKind.TEXT) if isinstance(one, Record)] == ["hello"]


# ---- hostile ----------------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A stream of the same bytes over and over, of so many in all."""

    def __init__(self, piece: bytes, count: int, head: bytes = b"") -> None:
        self._left, self._piece, self._head = count, piece, head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if self._head:
            given, self._head = self._head, b""
        else:
            given = (self._piece * (len(buffer) // len(self._piece) + 1))[: min(len(buffer), self._left)]
            self._left -= len(given)
        buffer[: len(given)] = given
        return len(given)


@pytest.mark.parametrize(
    ("shape", "head", "piece"),
    [
        (Format.LIST, b"", b"x"),
        (Format.CSV, b"value\n", b"x"),
        (Format.CSV, b'value\n"', b"x\n"),
        (Format.JSONL, b'{"value": "', b"x"),
        (Format.STOPNCII, b'{"hashRecords": [', b"[" * 10),
        (Format.STOPNCII, b'{"hashRecords": ["', b"x"),
        (Format.STOPNCII, b'{"hashRecords": [', b"   \n"),
        (Format.THREATEXCHANGE, b'{"x": ', b'{"x": '),
        (Format.NCMEC, b"<queryResult><images><image><id>", b"x"),
        (Format.NCMEC, b"<queryResult><images><image><fingerprints>", b"<a></a>"),
    ],
)
def test_a_line_without_end_is_not_held(
    shape: Format, head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bank_formats, bank_feeds, bank_json):
        monkeypatch.setattr(module, "LONGEST", 100_000)
    source = io.BufferedReader(Endless(piece, 3_000_000, head), 65_536)
    tracemalloc.start()
    try:
        said = list(islice(bank_feeds.read(source, shape, BankKind.IMAGE), 100))
    except InvalidInput:
        said = []
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 2_000_000
    assert not said or isinstance(said[0], Bad)


@given(st.binary(max_size=300), st.sampled_from(Format), st.sampled_from(BankKind))
def test_nothing_but_a_refusal_comes_of_anything(data: bytes, shape: Format, kind: BankKind) -> None:
    try:
        assert all(isinstance(one, Record | Bad | Foreign) for one in read(data, shape, kind))
        read(data, None, kind)
    except InvalidInput as refused:
        assert refused.detail.endswith(".")  # noqa: PT017


KEYS = (
    "data", "hashRecords", "images", "indicator", "type", "descriptors", "tags", "status", "reactions", "id",
    "member", "fingerprints", "pdq", "hashValue", "signalType", "caseNumbers", "CSPFeedbacks", "value", "verified",
    "expires", "sketch", "text",
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NESTED = st.recursive(
    PLAIN | st.sampled_from([BRIDGE, "HASH_PDQ", "ImagePDQ"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(NESTED, st.sampled_from([one for one in Format if one not in (Format.LIST, Format.CSV)]))
def test_any_json_is_a_record_or_told(data: object, shape: Format) -> None:
    try:
        assert all(isinstance(one, Record | Bad | Foreign) for one in read(json.dumps(data), shape))
    except InvalidInput as refused:
        assert refused.detail.endswith(".")  # noqa: PT017
