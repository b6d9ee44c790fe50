"""Hosts, links, addresses and numbers that a bank knows, found in the links of a text."""

from __future__ import annotations

import pytest

from moderation.domain.signals import How
from moderation.features.addresses import Addresses, Form, address
from moderation.features.links import links
from moderation.features.terms import Unusable


@pytest.mark.parametrize(
    ("written", "form", "value"),
    [
        ("Prizes.Example", Form.HOST, "prizes.example"),
        ("https://www.prizes.example/", Form.HOST, "www.prizes.example"),
        ("*.prizes.example", Form.HOST, "prizes.example"),
        ("http://0x7f.1", Form.HOST, "127.0.0.1"),
        ("bücher.example", Form.HOST, "xn--bcher-kva.example"),
        ("docs.example/f/1?x=2", Form.URL, "docs.example/f/1?x=2"),
        ("Anna@Prizes.example", Form.EMAIL, "anna@prizes.example"),
        ("+49 30 901820", Form.PHONE, "+4930901820"),
        ("0044 20 7946 0958", Form.PHONE, "+442079460958"),
    ],
)
def test_an_entry_is_told_by_its_looks(written: str, form: Form, value: str) -> None:
    made = address(written)
    assert (made.form, made.value) == (form, value)
    assert address(made.value, made.form) == made, "written as it is kept, it is the same"


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("co.uk", None), ("com", None), ("localhost", None), ("", None), ("a b", None), ("030 901820", "phone"),
        ("+49 1", "phone"), ("a@b", "email"), ("prizes.example", "url"), ("prizes.example", "term"),
        ("x" * 501, None),
    ],
)  # fmt: skip
def test_what_is_none_or_too_wide_is_refused(written: str, form: str | None) -> None:
    with pytest.raises(Unusable):
        address(written, form)


KNOWN = [
    address(one)
    for one in ("prizes.com", "docs.google.com/forms/77", "anna@swindle.org", "+49 30 901820", "paypal.com")
]


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("go to https://prizes.com/now!", [(0, How.HOST)]),
        ("go to a.b.PRIZES.com", [(0, How.HOST)]),
        ("go to notprizes.com", []),
        ("go to prizes.com.evil.net", [(0, How.LOOKALIKE)]),
        ("hxxp://prizes[.]com", [(0, How.HOST)]),
        ("fill in docs.google.com/forms/77/view", [(1, How.URL)]),
        ("fill in https://docs.google.com/forms/77?a=b.", [(1, How.URL)]),
        ("fill in https://docs.google.com/forms/778", []),
        ("write to ANNA@swindle.org", [(2, How.CONTACT)]),
        ("write to paul@swindle.org or x@prizes.com", [(0, How.HOST)]),
        ("call +49 (30) 901820 today", [(3, How.CONTACT)]),
        ("call 030 901820 today", []),
        ("paypa1.com", [(4, How.LOOKALIKE)]),
        ("www.paypal.com", [(4, How.HOST)]),
        ("nothing here", []),
    ],
)
def test_what_links_lead_to(text: str, hits: list[tuple[int, How]]) -> None:
    found = Addresses(KNOWN, likeness=True).find(text, links(text, None))
    assert [(one.index, one.how) for one in found] == hits


def test_look_alikes_only_where_they_are_asked_for() -> None:
    text = "paypa1.com"
    assert Addresses(KNOWN).find(text, links(text, None)) == []
