"""Where a text leads: hosts, e-mail addresses and phone numbers, also those that are written to be overlooked.

A host comes out as a browser would visit it: in lower case, in punycode, `0x7f.1` as 127.0.0.1, without the
name and password before it. Nothing is ever looked up in a network: which suffixes are public (`co.uk`) comes
from the snapshot that `tldextract` is installed with.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from itertools import chain, islice

import ada_url
import phonenumbers
import tldextract

from moderation.features.confusables import skeleton

LONGEST = 100_000
"""Code points of a text that are looked at; one longer than this is a document, and its end is left out."""
MOST_TRIED = 1_000
"""Numbers without a country's code that are tried of one text: a page of numbers is a table."""
SHORTEST_NAME = 5
"""Letters of a name below which neither one edit nor its place inside another domain says anything."""


class LinkKind(StrEnum):
    """What a link names."""

    HOST = "host"
    EMAIL = "email"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a text: `text[start:end]` is where it stands.

    `value` is the host, the address (in lower case) or the number (E.164: `+442079460958`). `registrable` is the
    domain that somebody has registered (`example.co.uk`), or the host itself where there is none; empty for a
    number. `obfuscated` says that a reader is meant to repair it (`example[.]com`, `hxxp://`).
    """

    kind: LinkKind
    value: str
    registrable: str
    start: int
    end: int
    obfuscated: bool = False


class LikenessKind(StrEnum):
    """How a host is like a protected one: it looks the same, is one letter off, or has its name inside."""

    SKELETON = "skeleton"
    EDIT = "edit"
    INSIDE = "inside"


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A host that may be taken for `protected`, one of the hosts asked about."""

    protected: str
    kind: LikenessKind


# Characters that a browser drops from a name, and the full stops that it takes for one.
_DROPPED = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_DOT = "[.。．｡]"
_LABEL = rf"[^\W_](?:[\w{_DROPPED}-]{{0,62}})"
_PLAIN_HOST = rf"{_LABEL}(?:{_DOT}{_LABEL})+"
# [.] (.) {.} [dot] (dot) and " dot ", the last only before a suffix that people name so.
_HIDDEN_DOT = (
    r"(?:\s?[\[({]\s?(?:\.|dot|punkt|punto|point)\s?[\])}]\s?|\s[.]\s?(?=COM)|\s(?:dot|DOT)\s(?=COM))"
)
_COMMON = (
    "(?:com|net|org|info|biz|co|io|me|ru|cn|xyz|top|site|online|shop|club|live|app|link|click"
    "|gg|tv|ly|de|uk|fr)"
)
_HIDDEN = _HIDDEN_DOT.replace("COM", rf"(?i:{_COMMON})\b")
_HIDDEN_AT = r"(?:\s?[\[({]\s?(?:@|at)\s?[\])}]\s?|\s(?:at|AT)\s)"

_SCHEME = re.compile(
    r"(?<![A-Za-z0-9])(?:h[tx*]{2}ps?|ftp)(?:\s?\[?:\]?\s?[/\\]{2}|\[:[/\\]{2}\])(?P<rest>[^\s<>\"'`{}|^]+)",
    re.IGNORECASE,
)
_BARE = re.compile(rf"(?<![\w@.。．｡/-])(?:[\w.+-]{{1,64}}@)?{_PLAIN_HOST}(?::\d{{1,5}})?(?![\w@-])")
_EMAIL = re.compile(rf"(?<![\w.+-])(?P<local>[\w.+-]{{1,64}})@(?P<host>{_PLAIN_HOST})")
_HIDDEN_EMAIL = re.compile(
    rf"(?<![\w.+-])(?P<local>[\w.+-]{{1,64}})(?:{_HIDDEN_AT}|@)(?P<host>{_LABEL}(?:(?:{_DOT}|{_HIDDEN}){_LABEL})+)"
)
_HIDDEN_HOST = re.compile(
    rf"(?<![\w@-])(?:{_LABEL}{_DOT}){{0,4}}{_LABEL}{_HIDDEN}(?:{_LABEL}(?:{_DOT}|{_HIDDEN})){{0,4}}{_LABEL}"
)
_PHONE = re.compile(r"(?:\+|\b00|\(|\b)\d[\d\s().\u00a0/-]{5,20}\d")
_HINT = re.compile(
    rf"{_DOT}\w|://|[\[({{]\s?(?:[.@:]|dot|at|punkt|punto|point)|\sdot\s|\s\.\s?\w|@", re.IGNORECASE
)
_ANY_SUFFIX = re.compile(r"[A-Za-z]{2,}$|xn--")


def links(text: str, region: str | None = "US") -> tuple[Link, ...]:
    """The links of `text` in the order of their places, none overlapping another.

    `region` is the country whose numbers are written without a country's code; None finds only those with one.
    """
    text = text[:LONGEST]
    found: list[Link] = []
    taken = bytearray(len(text))
    finders = (_schemes, _emails, _hidden_emails, _hidden_hosts, _bare) if _HINT.search(text) else ()
    # All of them, however many: a number of harmless links must not hide the one behind them.
    for link in chain(*(finder(text) for finder in finders), _phones(text, region)):
        if not any(taken[link.start : link.end]):
            taken[link.start : link.end] = b"\1" * (link.end - link.start)
            found.append(link)
    return tuple(sorted(found, key=lambda link: link.start))


def host_of(text: str) -> str | None:
    """The host that a URL or a host name leads to, as `Link.value` has it; None where it leads nowhere."""
    written = text.strip()
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", written):
        written = f"http://{written}"
    try:
        host = ada_url.URL(written).hostname
    except (ValueError, UnicodeError):
        return None
    return host.rstrip(".").removeprefix("[").removesuffix("]") or None


@lru_cache(maxsize=8192)
def registrable(host: str) -> str:
    """The part of `host` that somebody has registered, `host` itself for an address or a bare suffix."""
    return _extract()(host).top_domain_under_public_suffix or host


@cache
def _extract() -> tldextract.TLDExtract:
    # No list is fetched and none is written to a folder: the snapshot in the package is what counts.
    return tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())


@lru_cache(maxsize=8192)
def _public(host: str) -> bool:
    """Whether a host that was written without a scheme can be one: an address, or under a known suffix."""
    if _is_address(host):
        return host.count(".") == 3
    parts = _extract()(host)
    return bool(parts.suffix and parts.domain)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _schemes(text: str) -> Iterator[Link]:
    for found in _SCHEME.finditer(text):
        rest = found["rest"].rstrip(".,;:!?)]*_~…")
        end = found.start("rest") + len(rest)
        repaired = re.sub(r"[\[(]\s?(?:\.|dot)\s?[\])]", ".", rest, flags=re.IGNORECASE)
        scheme = text[found.start() : found.start("rest")].casefold()
        host = host_of(f"http://{repaired}")
        if host:
            hidden = repaired != rest or scheme not in {"http://", "https://", "ftp://"}
            yield Link(LinkKind.HOST, host, registrable(host), found.start(), end, hidden)


def _emails(text: str) -> Iterator[Link]:
    for found in _EMAIL.finditer(text) if "@" in text else ():
        if link := _email(found["local"], found["host"], found.start(), found.end(), hidden=False):
            yield link


def _hidden_emails(text: str) -> Iterator[Link]:
    for found in _HIDDEN_EMAIL.finditer(text):
        said = re.sub(_HIDDEN, ".", found["host"])
        # "look at example.com" has the words of an address and is none: one of its signs must be in brackets,
        # or its dot a word too.
        at = text[found.end("local") : found.start("host")]
        if at.strip().casefold() == "at" and said == found["host"]:
            continue
        if link := _email(found["local"], said, found.start(), found.end(), hidden=True):
            yield link


def _email(local: str, written: str, start: int, end: int, *, hidden: bool) -> Link | None:
    host = host_of(written)
    if not host or not _public(host):
        return None
    address = f"{local.strip('.').casefold()}@{host}"
    return Link(LinkKind.EMAIL, address, registrable(host), start, end, hidden)


def _hidden_hosts(text: str) -> Iterator[Link]:
    for found in _HIDDEN_HOST.finditer(text):
        host = host_of(re.sub(_HIDDEN, ".", found[0]))
        if host and _public(host):
            yield Link(LinkKind.HOST, host, registrable(host), found.start(), found.end(), obfuscated=True)


def _bare(text: str) -> Iterator[Link]:
    for found in _BARE.finditer(text):
        written = found[0]
        last = re.split(_DOT, written)[-1].partition(":")[0]
        # "It ends here.So does this": a capital after the full stop begins a sentence, unless all is in capitals.
        if "@" in written or (last.istitle() and last.isascii() and not written[:1].isupper()):
            continue
        host = host_of(written)
        if host and _public(host) and (not _is_address(host) or written.count(".") == 3):
            odd = any(c in _DROPPED or c in "。．｡" for c in written)
            yield Link(LinkKind.HOST, host, registrable(host), found.start(), found.end(), odd)


def _phones(text: str, region: str | None) -> Iterator[Link]:
    for found in islice(_PHONE.finditer(text), None if region is None else MOST_TRIED):
        written = found[0].lstrip("(") if found[0].count("(") != found[0].count(")") else found[0]
        start = found.end() - len(written)
        digits = sum(character.isdigit() for character in written)
        if not 7 <= digits <= 17:
            continue
        if number := _number(written, region):
            yield Link(LinkKind.PHONE, number, "", start, found.end())


def _number(written: str, region: str | None) -> str | None:
    """E.164 of a number that exists in its country's plan; one without a country's code must be grouped."""
    if written.startswith(("+", "00")):
        said = f"+{written[2:]}" if written.startswith("00") else written
        try:
            number = phonenumbers.parse(said, None)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_valid_number(number):
            return None
    else:
        if region is None or written.isdigit():
            return None
        # Dates and order numbers have as many digits: only the grouping that a country uses tells them apart.
        matcher = phonenumbers.PhoneNumberMatcher(written, region, phonenumbers.Leniency.STRICT_GROUPING)
        found = next(iter(matcher), None)
        if found is None or found.start != 0:
            return None
        number = found.number
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class Protected:
    """Hosts that others may pose as, ready to be asked about many: for thousands of them, not for millions."""

    def __init__(self, hosts: Collection[str]) -> None:
        """`hosts` as `Link.value` has them; those that are addresses are left out."""
        named = [(host, *_name(registrable(host))) for host in hosts if not _is_address(host)]
        self._own = {registrable(host) for host in hosts}
        self._hosts = frozenset(hosts)
        self._skeletons = _grouped((f"{skeleton(name)}.{suffix}", host) for host, name, suffix in named)
        self._names = _grouped(
            (skeleton(name), host) for host, name, _ in named if len(name) >= SHORTEST_NAME
        )
        self._edits = _grouped(
            (shorter, host)
            for host, name, _ in named
            if len(name) >= SHORTEST_NAME
            for shorter in _shorter(name)
        )

    def like(self, host: str) -> tuple[LookAlike, ...]:
        """The protected hosts that `host` may be taken for; none if it is one of them or under their domain."""
        domain = registrable(host)
        if _is_address(host) or host in self._hosts or domain in self._own:
            return ()
        name, suffix = _name(domain)
        found: dict[str, LikenessKind] = {}
        for other in self._skeletons.get(f"{skeleton(name)}.{suffix}", ()):
            found.setdefault(other, LikenessKind.SKELETON)
        for shorter in _shorter(name) if len(name) >= SHORTEST_NAME else ():
            for other in self._edits.get(shorter, ()):
                theirs, _ = _name(registrable(other))
                if theirs != name and _one_edit(name, theirs):
                    found.setdefault(other, LikenessKind.EDIT)
        for token in _tokens(host):
            for other in self._names.get(token, ()):
                found.setdefault(other, LikenessKind.INSIDE)
        return tuple(LookAlike(other, kind) for other, kind in found.items())


def lookalikes(host: str, protected: Collection[str]) -> tuple[LookAlike, ...]:
    """The hosts of `protected` that `host` may be taken for; to ask about many hosts, keep a `Protected`."""
    return Protected(protected).like(host)


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, host in pairs:
        if host not in groups[key]:
            groups[key].append(host)
    return dict(groups)


def _name(domain: str) -> tuple[str, str]:
    """A registrable domain's own label, in Unicode, and its suffix."""
    name, _, suffix = domain.partition(".")
    return (ada_url.idna_to_unicode(name.encode()) if name.startswith("xn--") else name), suffix


# What is put before or after a name to make a host of it that seems to belong to whoever has the name.
_LURES = (
    "login", "signin", "secure", "security", "support", "service", "account", "accounts", "verify", "update",
    "pay", "payment", "bank", "online", "help", "bonus", "gift", "free", "prize", "official", "team", "app", "shop",
    "store",
    "id", "my", "www", "web", "mail",
)  # fmt: skip


def _tokens(host: str) -> Iterator[str]:
    """The words that a host's labels consist of, as skeletons, the suffix left out."""
    domain = registrable(host)
    below = host[: -len(domain)].rstrip(".") if host.endswith(domain) else ""
    labels = [*(_name(label)[0] for label in below.split(".")), _name(domain)[0]]
    for label in labels:
        for word in label.split("-"):
            yield skeleton(word)
            for lure in _LURES:
                if word.startswith(lure):
                    yield skeleton(word[len(lure) :])
                if word.endswith(lure):
                    yield skeleton(word[: -len(lure)])


def _shorter(name: str) -> set[str]:
    """`name` and all that lack one of its characters: names one edit apart share one of these."""
    return {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}


def _one_edit(a: str, b: str) -> bool:
    """Whether one letter more, less or other, or two neighbours swapped, makes `a` of `b`."""
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1:
        return False
    first = next((i for i in range(len(a)) if a[i] != b[i]), len(a))
    if len(a) < len(b):
        return a[first:] == b[first + 1 :]
    if a[first + 1 :] == b[first + 1 :]:
        return True
    return a[first : first + 2] == b[first : first + 2][::-1] and a[first + 2 :] == b[first + 2 :]
