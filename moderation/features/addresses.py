"""Known hosts, addresses and numbers, looked for among the links of a text (`links.links`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import ada_url
import phonenumbers

from moderation.domain.signals import How
from moderation.features.links import Link, LinkKind, Protected, host_of, registrable
from moderation.features.terms import Unusable

LONGEST = 500
LIKENESS = 1.0
"""The distance of a bank whose entries are also looked for in what looks like them."""


class Form(StrEnum):
    """What an entry of a bank of links is."""

    HOST = "host"  # and every host under it
    URL = "url"  # a host and the beginning of a path
    EMAIL = "email"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Address:
    """An entry in the one way to write it: `evil.example`, `docs.example/f/1`, `a@evil.example`, `+4930123456`."""

    form: Form
    value: str


@dataclass(frozen=True, slots=True)
class AddressFind:
    """The `index`-th of a list, found in a link that stands from `start` to `end`."""

    index: int
    start: int
    end: int
    how: How


def address(written: str, form: str | None = None) -> Address:
    """An entry as somebody wrote it; without `form` it is told by its looks.

    Raises:
        Unusable: it is none, or one that would match half of the web.
    """
    text = written.strip()
    if not text or len(text) > LONGEST:
        raise Unusable(f"A link has 1 to {LONGEST} characters; write a host, an address or a number.")
    if form is not None and form not in set(Form):
        raise Unusable(f"form must be one of {', '.join(Form)} in a bank of links.")
    kind = Form(form) if form else _looks_like(text)
    return Address(kind, _MADE[kind](text))


def _looks_like(text: str) -> Form:
    bare = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", text)
    if re.fullmatch(r"(?:\+|00)[\d\s().\u00a0/-]+", text):
        return Form.PHONE
    if "@" in bare and "/" not in bare:
        return Form.EMAIL
    return Form.URL if bare.partition("/")[2].strip("/") or "?" in bare else Form.HOST


def _host(text: str) -> str:
    host = host_of(text.removeprefix("*.").rstrip("/"))
    if host is None or ("." not in host and ":" not in host):
        raise Unusable("This is no host. Write it as in evil.example, without anything after it.")
    if registrable(f"y.x.{host}") == f"x.{host}":
        raise Unusable("This is a suffix under which anybody has hosts, as co.uk; name a host below it.")
    return host


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _url(text: str) -> str:
    host, path = _parsed(text)
    if path in ("", "/"):
        raise Unusable("This link has no path; give it the form host.")
    return f"{_host(host)}{path.rstrip('/')}"


def _parsed(text: str) -> tuple[str, str]:
    """Host and path with query of a link as a browser reads it."""
    written = text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else f"http://{text}"
    try:
        url = ada_url.URL(written)
    except (ValueError, UnicodeError) as error:
        raise Unusable(
            "This is no link. Write it as in evil.example/page, with nothing around it."
        ) from error
    return url.hostname.rstrip("."), f"{url.pathname}{url.search}"


def _email(text: str) -> str:
    local, _, domain = text.removeprefix("mailto:").rpartition("@")
    host = host_of(domain)
    if not re.fullmatch(r"[\w.+-]{1,64}", local) or host is None or "." not in host:
        raise Unusable("This is no mail address. Write it as in name@evil.example.")
    return f"{local.casefold().strip('.')}@{host}"


def _phone(text: str) -> str:
    said = f"+{text[2:]}" if text.startswith("00") else text
    try:
        number = phonenumbers.parse(said, None)
    except phonenumbers.NumberParseException as error:
        raise Unusable("This is no telephone number with a country's code, as in +49 30 901820.") from error
    if not phonenumbers.is_possible_number(number):
        raise Unusable("This telephone number is too short or too long for its country; look at it again.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_MADE = {Form.HOST: _host, Form.URL: _url, Form.EMAIL: _email, Form.PHONE: _phone}


class Addresses:
    """Many entries, looked for at once."""

    def __init__(self, entries: Sequence[Address], *, likeness: bool = False) -> None:
        """With `likeness` also hosts that look like an entry's, and are not under it."""
        self._hosts = _places(entries, Form.HOST)
        self._contacts = _places(entries, Form.EMAIL) | _places(entries, Form.PHONE)
        self._urls = _places(entries, Form.URL)
        self._with_urls = {one.partition("/")[0] for one in self._urls}
        self._longest = max(map(len, self._urls), default=0)
        self._protected = Protected(list(self._hosts)) if likeness else None

    def find(self, text: str, links: Sequence[Link]) -> list[AddressFind]:
        """The entries that the links of `text` lead to."""
        return [find for link in links for find in self._of(text, link)]

    def _of(self, text: str, link: Link) -> Iterator[AddressFind]:
        found = partial(AddressFind, start=link.start, end=link.end)
        if link.kind is not LinkKind.HOST and link.value in self._contacts:
            yield found(self._contacts[link.value], how=How.CONTACT)
        if link.kind is LinkKind.PHONE:
            return
        host = link.value.rpartition("@")[2]
        yield from (found(self._hosts[one], how=How.HOST) for one in _upwards(host) if one in self._hosts)
        if link.kind is LinkKind.HOST and host in self._with_urls:
            begun = _beginnings(f"{host}{_path(_whole(text, link))}", len(host) + 1, self._longest)
            yield from (found(self._urls[one], how=How.URL) for one in begun if one in self._urls)
        if self._protected is not None:
            for like in self._protected.like(host):
                yield found(self._hosts[like.protected], how=How.LOOKALIKE)


def _beginnings(address: str, least: int, most: int) -> Iterator[str]:
    """What an address begins with, and that not in the middle of a name, from `least` to `most` characters."""
    for stop in _STOP.finditer(address, least, most + 1):
        yield address[: stop.start()]
    if len(address) <= most:
        yield address


def _places(entries: Sequence[Address], form: Form) -> dict[str, int]:
    return {one.value: index for index, one in enumerate(entries) if one.form is form}


def _upwards(host: str) -> Iterator[str]:
    """The host and every domain above it; of an address only itself."""
    yield host
    if not _is_number(host):
        labels = host.split(".")
        yield from (".".join(labels[at:]) for at in range(1, len(labels) - 1))


_STOP = re.compile("[/?&]")
# As long as anybody's link is: what follows can be a text of its own, read again for each link in it.
_FURTHER = re.compile(r"[/?#:][^\s<>\"'`{}|^]{0,4000}")


def _whole(text: str, link: Link) -> str:
    """A link with its path: one that was written without a scheme ends at its host."""
    further = _FURTHER.match(text, link.end)
    return text[link.start : further.end() if further else link.end].rstrip(".,;:!?)]*_~…")


def _path(written: str) -> str:
    try:
        return _parsed(re.sub(r"^[a-z*]+:[/\\]{2}", "http://", written, flags=re.IGNORECASE))[1]
    except Unusable:
        return ""
