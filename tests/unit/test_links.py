"""Hosts, addresses and numbers in a text, and hosts that pose as others."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.features import links as module
from moderation.features.links import (
    LikenessKind,
    LinkKind,
    Protected,
    host_of,
    links,
    lookalikes,
    registrable,
)

FOUND = [
    ("see https://EXAMPLE.com:80/a?b.", "host", "example.com", "https://EXAMPLE.com:80/a?b", False),
    ("www.foo.co.uk/bar", "host", "www.foo.co.uk", "www.foo.co.uk", False),
    ("go to example.org, please", "host", "example.org", "example.org", False),
    ("http://0x7f.1/", "host", "127.0.0.1", "http://0x7f.1/", False),
    ("http://2130706433/", "host", "127.0.0.1", "http://2130706433/", False),
    ("at 10.0.0.1:80 now", "host", "10.0.0.1", "10.0.0.1:80", False),
    ("http://[::1]:80/", "host", "::1", "http://[::1]:80/", False),
    (
        "https://bank.example@evil.example/",
        "host",
        "evil.example",
        "https://bank.example@evil.example/",
        False,
    ),
    ("https://пример.рф/путь", "host", "xn--e1afmkfd.xn--p1ai", "https://пример.рф/путь", False),
    ("hxxps://evil[.]example[.]com/x go", "host", "evil.example.com", "hxxps://evil[.]example[.]com/x", True),
    ("http[:]//foo[.]com", "host", "foo.com", "http[:]//foo[.]com", True),
    ("example (dot) com", "host", "example.com", "example (dot) com", True),
    ("go to example dot com now", "host", "example.com", "example dot com", True),
    ("exam\u200bple.com", "host", "example.com", "exam\u200bple.com", True),
    ("ｅｘａｍｐｌｅ。com", "host", "example.com", "ｅｘａｍｐｌｅ。com", True),
    (
        "mail John.Doe+x@Example.co.uk.",
        "email",
        "john.doe+x@example.co.uk",
        "John.Doe+x@Example.co.uk",
        False,
    ),
    ("john[at]example[.]com", "email", "john@example.com", "john[at]example[.]com", True),
    ("john at example dot com", "email", "john@example.com", "john at example dot com", True),
    ("call +44 20 7946 0958 now", "phone", "+442079460958", "+44 20 7946 0958", False),
    ("0049 30 901820", "phone", "+4930901820", "0049 30 901820", False),
    ("(415) 555-2671", "phone", "+14155552671", "(415) 555-2671", False),
]


@pytest.mark.parametrize(("text", "kind", "value", "stands", "obfuscated"), FOUND)
def test_a_link_is_found(text: str, kind: str, value: str, stands: str, obfuscated: bool) -> None:
    (link,) = links(text)
    assert (link.kind, link.value, link.obfuscated) == (kind, value, obfuscated)
    assert text[link.start : link.end] == stands


@pytest.mark.parametrize(
    "text",
    [
        "It ends here.So does this. And e.g. that, i.e. 3.14 or v1.2.3.",
        "hello...world ok.then",
        "a polka dot in the room, dot by dot",
        "2024-11-23 12:30 and 12.5.2024, order 1234567890, $1,234.56 or 1.000.000,00",
        "meet me @ noon, @somebody, 5 @ 3",
        "look at this",
        "1.2.3 and 1.2.3.4.5 and 999.1.1.1",
    ],
)
def test_what_is_none_is_not(text: str) -> None:
    assert links(text) == ()


def test_a_number_without_a_country_is_of_the_region() -> None:
    assert links("(415) 555-2671", region=None) == ()
    (link,) = links("ring 020 7946 0958", region="GB")
    assert link.value == "+442079460958"


def test_several_links_come_in_their_order() -> None:
    text = "first a.example.com then mail b@example.org and https://c.example.net/?u=d.example.com"
    assert [link.value for link in links(text)] == ["a.example.com", "b@example.org", "c.example.net"]


def test_what_is_registrable() -> None:
    assert registrable("a.b.example.co.uk") == "example.co.uk"
    assert registrable("127.0.0.1") == "127.0.0.1"
    assert registrable("co.uk") == "co.uk"


@pytest.mark.parametrize("written", ["", "http://", "not a host", "http://exa mple.com", "http://a..b/%"])
def test_what_leads_nowhere_is_no_host(written: str) -> None:
    assert host_of(written) in {None, "a..b"}


def test_a_link_hides_behind_no_number_of_others() -> None:
    found = links("a.de b@c.de http://d.de +442079460958 " * 1_000 + "e.com", None)
    assert len(found) == 4_001
    assert found[-1].value == "e.com"


PROTECTED = ["paypal.com", "login.microsoft.com", "mybank.de", "amazon.com"]


@pytest.mark.parametrize(
    ("host", "kind", "of"),
    [
        ("paypa1.com", LikenessKind.SKELETON, "paypal.com"),
        ("xn--pypal-4ve.com", LikenessKind.SKELETON, "paypal.com"),
        ("rnicrosoft.com", LikenessKind.SKELETON, "login.microsoft.com"),
        ("www.rnybank.de", LikenessKind.SKELETON, "mybank.de"),
        ("paypall.com", LikenessKind.EDIT, "paypal.com"),
        ("papyal.com", LikenessKind.EDIT, "paypal.com"),
        ("amazo.net", LikenessKind.EDIT, "amazon.com"),
        ("paypal-login.com", LikenessKind.INSIDE, "paypal.com"),
        ("securepaypal.com", LikenessKind.INSIDE, "paypal.com"),
        ("paypal.com.evil.ru", LikenessKind.INSIDE, "paypal.com"),
        ("amazon.top", LikenessKind.INSIDE, "amazon.com"),
    ],
)
def test_a_host_that_poses_as_another(host: str, kind: LikenessKind, of: str) -> None:
    (found,) = lookalikes(host, PROTECTED)
    assert (found.protected, found.kind) == (of, kind)


@pytest.mark.parametrize(
    "host",
    [
        "paypal.com",
        "www.paypal.com",
        "microsoft.com",
        "amazonas.com",
        "example.com",
        "127.0.0.1",
        "pal.com",
        "bank.de",
    ],
)
def test_a_host_of_its_own_poses_as_nobody(host: str) -> None:
    assert Protected(PROTECTED).like(host) == ()


def test_nothing_is_fetched_and_nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("something was asked for that is not here")

    module._extract.cache_clear()
    module.registrable.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("tldextract.cache.DiskCache.set", refused)
    assert registrable("x.example.co.uk") == "example.co.uk"


@given(st.text(alphabet=st.characters() | st.sampled_from("a.@:/[]()0123 +-dot com\u200b。"), max_size=300))
def test_links_lie_inside_and_apart(text: str) -> None:
    found = links(text)
    for link in found:
        assert 0 <= link.start < link.end <= len(text)
        assert link.value
        assert link.kind in LinkKind
    assert all(a.end <= b.start for a, b in pairwise(found))
