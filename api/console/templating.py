"""Templates: strict about names, escaping everything, with the filters by which pages speak of time and numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from api import people, promised
from api.console import security
from moderation.domain.access import Permission
from moderation.review.views import MatchView, Span, TextView

HERE = Path(__file__).parent
STATIC = HERE / "static"

ACTIONS: Mapping[str, tuple[str, str]] = {
    "next": ("j", "Next case in the queue"),
    "previous": ("k", "Previous case in the queue"),
    "allow": ("a", "Allow"),
    "limit": ("l", "Limit"),
    "remove": ("r", "Remove"),
    "escalate": ("e", "Escalate"),
    "skip": ("s", "Skip"),
    "reveal": (" ", "Reveal what is hidden"),
    "undo": ("u", "Undo the last decision"),
    "note": ("n", "Write a note"),
    "model": ("m", "What the model saw"),
    "help": ("?", "All keys"),
}
"""What a key can do, by default which one, and in words. 1 to 9 choose a category and are not remapped."""

# Pages of one thing, whose address has its name as the next step.
OF_ONE = {"cases", "items", "authors", "banks", "people", "promises"}
# Forms without a page of their own address, and the page they are sent from.
SENT_FROM = {"undo": "queue", "logout": "", "csp-reports": ""}

THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person chose for their own screen."""

    theme: str = "auto"
    keys: bool = True
    keymap: Mapping[str, str] | None = None
    hidden: str = "blurred"  # a picture before it is revealed: blurred, or none at all
    shown: str = "grey"  # and after: in grey, or in colour

    def key(self, action: str) -> str:
        """The key of an action; empty where keys are off."""
        if not self.keys:
            return ""
        return (self.keymap or {}).get(action, ACTIONS[action][0])

    def bound(self) -> dict[str, str]:
        """Every action's key, for the script that listens."""
        return {action: self.key(action) for action in ACTIONS} if self.keys else {}


def preferences_of(stored: Mapping[str, Any]) -> Preferences:
    """Preferences as stored; what an older release wrote and this one doesn't know is left out."""
    keymap = stored.get("keymap")
    usable = {a: k for a, k in keymap.items() if a in ACTIONS} if isinstance(keymap, Mapping) else {}
    return Preferences(
        theme=_one_of(stored.get("theme"), THEMES, "auto"),
        keys=stored.get("keys", True) is not False,
        keymap=usable,
        hidden=_one_of(stored.get("hidden"), ("blurred", "covered"), "blurred"),
        shown=_one_of(stored.get("shown"), ("grey", "full"), "grey"),
    )


def _one_of(value: object, known: tuple[str, ...], default: str) -> str:
    return value if isinstance(value, str) and value in known else default


@cache
def static_version() -> str:
    """A digest over every static file: a new release has new addresses, so browsers may keep the old for ever."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(STATIC).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def static(name: str) -> str:
    """The address of a static file."""
    return f"/console/static/{static_version()}/{name}"


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page. Who looks, what they may and what they chose are there by themselves: `me`, `can`, `prefs`."""
    principal = getattr(request.state, "principal", None)
    chosen = getattr(request.state, "preferences", None)
    allowed: frozenset[str] = frozenset(principal.permissions) if principal else frozenset()
    common = {
        "me": principal,
        "can": lambda *wanted: bool(allowed & {Permission(one) for one in wanted}),
        "prefs": preferences_of(chosen or {}),
        "path": request.url.path,
        "now": datetime.now(UTC),
        # Lazily: a page without a form, or without anybody logged in, needs none.
        "csrf_token": lambda: people.csrf_token(request),
        "flash": "",
    }
    return HTMLResponse(environment().get_template(template).render(common | context), status)


def see(address: str, **query: object) -> RedirectResponse:
    """The answer to a form: look over there."""
    given = {name: str(value) for name, value in query.items() if value is not None and value != ""}
    return RedirectResponse(address + (f"?{urlencode(given)}" if given else ""), 303)


def problem_page(request: Request, problem: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """A refusal as a page with its sentence; who is not logged in is sent to the log-in instead."""
    status = int(problem["status"])
    kept = {
        name: value for name, value in headers.items() if name.lower() not in ("www-authenticate", "allow")
    }
    door = "login" if status == 401 else "second-factor" if problem.get("code") == "step_up_required" else ""
    if door:
        return RedirectResponse(f"/console/{door}?next={quote(_own_address(request), safe='')}", 303, kept)
    page = render(request, "error.html", status, problem=problem)
    # What nobody expected is answered outside of every middleware.
    page.headers.update({**kept, **security.HEADERS})
    return page


def _own_address(request: Request) -> str:
    """Where somebody is to come back to: the page they asked for, or the one whose form they sent."""
    if request.method == "GET":
        return request.url.path + (f"?{request.url.query}" if request.url.query else "")
    # /console/cases/ID/reveal was sent from /console/cases/ID, /console/policy/publish from /console/policy.
    steps = request.url.path.split("/")[2:] or [""]
    if steps[:3:2] == ["cases", "cluster"]:
        return "/".join(("/console", *steps[:3]))
    if steps[0] == "governance":
        return "/".join(("/console", *steps[: 3 if len(steps) > 3 else 2]))
    if steps[0] in SENT_FROM or steps[:2] == ["people", "links"]:
        return f"/console/{SENT_FROM.get(steps[0], 'people')}"
    return "/".join(("/console", *steps[: 2 if steps[0] in OF_ONE else 1]))


@cache
def environment() -> Environment:
    """The one environment of the process."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"static": static, "actions": ACTIONS, "severities": SEVERITIES}
    made.filters |= {
        "when": when,
        "until": until,
        "duration": duration,
        "words": words,
        "percent": percent,
        "share": promised.share,
        "number": lambda value: f"{value:,}",
        "short": lambda value: str(value)[-8:],
        "keycap": keycap,
        "severity": severity,
        "marked": marked,
        "legend": legend,
        "written": written,
        "places": places,
        "reasons": reasons,
        "how_found": how_found,
        "zipped": lambda said, values: list(zip(values, said, strict=True)),
    }
    return made


SEVERITIES = {1: "nuisance", 2: "minor", 3: "serious", 4: "grave", 5: "gravest"}
_NAMES = {" ": "Space", "?": "?"}


@cache
def severity(level: int, *, label: bool = True) -> Markup:
    """Five steps and a word, never colour alone. Drawn once: a list shows one of these in every row."""
    step = Markup('<rect x="{}" y="{}" width="4" height="{}" rx="1"{}/>')
    steps = Markup().join(
        step.format(at * 5, 6.5 - at * 1.5, 3.5 + at * 1.5, Markup(' class="on"') if at < level else "")
        for at in range(5)
    )
    return Markup(
        '<span class="severity s{}"><svg viewBox="0 0 24 10" width="24" height="10" aria-hidden="true">{}</svg>'
        "<span{}>{}</span></span>"
    ).format(level, steps, "" if label else Markup(' class="visually-hidden"'), SEVERITIES[level])


def keycap(key: str) -> str:
    """A key as it stands on a keyboard."""
    return _NAMES.get(key, key.upper())


def marked(text: str, spans: Sequence[Span]) -> Markup:
    """A text with what was found in it marked; where two finds overlap, the earlier is marked whole."""
    made, at = Markup(), 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start, end = max(span.start, at), min(span.end, len(text))
        if start < end:
            label = words(span.label)
            said = label if span.weight is None else f"{label}, {strength(span.weight)}"
            much = "" if span.weight is None else f": log-odds {span.weight:.1f} lower without"
            made += escape(text[at:start])
            # A mark has no name of its own that a screen reader would read.
            made += Markup(
                '<mark class="{0}" data-label="{1}" title="{2}{3}">{4}'
                '<span class="visually-hidden"> ({2})</span></mark>'
            ).format(mark_class(span), label, said, much, text[start:end])
            at = end
    return made + escape(text[at:])


def written(part: TextView, placed: bool) -> Markup:
    """A text that was read in a picture, marked, line by line; where it is `placed`, a line can be pointed at."""
    made, at = Markup(), 0
    for number, line in enumerate(part.lines):
        inside = [
            replace(
                span, start=max(span.start, line.start) - line.start, end=min(span.end, line.end) - line.start
            )
            for span in part.spans
            if span.start < line.end and span.end > line.start
        ]
        # One stop for the tabulator; the arrows go from line to line.
        stop = Markup(' tabindex="{0}"').format(-1 if number else 0) if placed else ""
        made += escape(part.text[at : line.start])
        made += Markup('<span class="line" data-line="{0}"{1}>{2}</span>').format(
            number, stop, marked(part.text[line.start : line.end], inside)
        )
        at = line.end
    return made + escape(part.text[at:])


def places(part: TextView) -> Markup:
    """Where the lines of a text stand in their picture, drawn to lie over it."""
    drawn = Markup().join(
        Markup('<polygon data-line="{0}" points="{1}"/>').format(
            number, " ".join(f"{x:g},{y:g}" for x, y in line.corners)
        )
        for number, line in enumerate(part.lines)
    )
    return Markup(
        '<svg class="places" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">{0}</svg>'
    ).format(drawn)


def mark_class(span: Span) -> str:
    """How a mark looks: what a rule found, or words that moved a score, and those that moved it most."""
    if span.weight is None:
        return "found"
    return "moved most" if span.weight >= STRONGLY else "moved"


STRONGLY, CLEARLY = 2.0, 1.0  # log-odds: seven times, nearly three times as likely


def strength(weight: float) -> str:
    """How much words moved a score, in a word."""
    return "strongly" if weight >= STRONGLY else "clearly" if weight >= CLEARLY else "a little"


def legend(spans: Sequence[Span]) -> list[tuple[str, str]]:
    """What marks there are: each class and label once, in the order in which they stand."""
    kinds = (
        ("found" if span.weight is None else "moved", span.label)
        for span in sorted(spans, key=lambda span: span.start)
    )
    return list(dict.fromkeys(kinds))


def reasons(why: Sequence[str], matches: Sequence[MatchView]) -> list[str]:
    """Why a case is here, without what its matches say better than an entry's id does."""
    entries = [match.entry for match in matches]
    return [line for line in why if not any(entry in line for entry in entries)]


HOW = {
    "equal": "Equals an entry",
    "near": "Resembles an entry",
    "term": "Contains a term",
    "pattern": "Fits a pattern",
    "host": "Links to a host",
    "url": "Links to an address",
    "lookalike": "Links to a host that looks like one",
    "contact": "Names a contact",
    "claim": "Means nearly the same as a claim",
    "picture": "Shows the picture of an entry",
    "alike": "May show the picture of an entry",
}


def how_found(how: str) -> str:
    """How a part and an entry of a bank belong together, as the beginning of a sentence."""
    return HOW.get(str(how), HOW["equal"])


def words(value: object) -> str:
    """A name of ours as people write it: `illegal_goods` -> `illegal goods`."""
    return str(value).replace("_", " ")


def percent(value: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{value * 100:.{digits}f} %"


def duration(seconds: float) -> str:
    """A span of time in its largest sensible unit: `4 min`, `3 h`, `12 days`."""
    seconds = abs(seconds)
    if seconds < 60:
        return f"{int(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 48 * 3600:
        hours, rest = divmod(int(seconds), 3600)
        minutes = rest // 60
        return f"{hours} h {minutes:02} min" if hours < 3 and minutes else f"{hours} h"
    return f"{int(seconds // 86400)} days"


def when(moment: datetime, now: datetime) -> Markup:
    """A moment as words, with the exact time for whoever points at it or asks a machine."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 5:
        said = "just now"
    elif seconds < 0:
        said = f"in {duration(seconds)}"
    else:
        said = f"{duration(seconds)} ago"
    return _time(moment, said)


def until(deadline: datetime, now: datetime) -> Markup:
    """A deadline as words: `due in 3 h`, `overdue by 20 min`."""
    left = deadline - now
    said = f"due in {duration(left.total_seconds())}"
    if left < timedelta(0):
        said = f"overdue by {duration(left.total_seconds())}"
    return _time(deadline, said)


def _time(moment: datetime, said: str) -> Markup:
    exact = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
        exact.isoformat(timespec="seconds"), exact, said
    )
