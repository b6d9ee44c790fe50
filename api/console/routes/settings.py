"""My settings: keys, looks, what I would rather not see, and what work finds me."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from api.auth import services
from api.console.templating import ACTIONS, THEMES, preferences_of, render, see
from api.people import person
from api.services import Services
from moderation.domain.access import Permission
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.governance.sessions import PersonPrincipal
from moderation.review import wellness
from moderation.storage.database import transaction
from moderation.storage.tables import Person

router = APIRouter(prefix="/console/settings", include_in_schema=False)

Held = Annotated[Services, Depends(services)]
Myself = Annotated[PersonPrincipal, Depends(person(Permission.SELF_MANAGE))]
OTHER = "other"
LANGUAGES = 20


async def sent(request: Request) -> FormData:
    """A dependency that reads the form whole: its key fields are named after actions."""
    return await request.form()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A form of settings, checked."""

    preferences: Mapping[str, Any]
    opt_outs: list[str]
    queues: list[str]
    languages: list[str]


@router.get("")
def settings_page(request: Request, held: Held, me: Myself) -> Response:
    """What is chosen now."""
    return _page(request, held, me, saved="saved" in request.query_params)


@router.post("")
def save(request: Request, held: Held, me: Myself, form: Annotated[FormData, Depends(sent)]) -> Response:
    """Keep what was chosen; all of it, or none."""
    try:
        with transaction(held.databases.content) as session:
            policy = held.policies.current(session)
            chosen = read(form, policy)
            row = session.get_one(Person, me.person_id)
            row.preferences = {**row.preferences, **chosen.preferences}
            if Permission.CASE_DECIDE in me.permissions:
                row.queues, row.languages = chosen.queues, chosen.languages
                wellness.opt_out(session, policy, me, chosen.opt_outs, datetime.now(UTC))
    except InvalidInput as refusal:
        return _page(request, held, me, fault=refusal.detail)
    return see("/console/settings", saved=1)


def read(form: FormData, policy: Policy) -> Chosen:
    """The form's settings.

    Raises:
        InvalidInput: with what to change, for whoever filled it in.
    """
    keymap = _keymap({action: _text(form, f"key-{action}") for action in ACTIONS if f"key-{action}" in form})
    preferences = {
        "theme": _one_of(form, "theme", THEMES),
        "keys": "keys" in form,
        "keymap": keymap,
        "hidden": _one_of(form, "hidden", ("blurred", "covered")),
        "shown": _one_of(form, "shown", ("grey", "full")),
    }
    queues = [one for one in (*policy.categories, OTHER) if one in form.getlist("queue")]
    if len(queues) == len(policy.categories) + 1:
        queues = []  # All of them is what nobody chose; a category that comes later then belongs to it.
    languages = sorted({word for word in _text(form, "languages").lower().replace(",", " ").split() if word})
    if len(languages) > LANGUAGES or not all(_is_language(word) for word in languages):
        raise InvalidInput("Write languages as two or three letters each, such as: en de pt.")
    opt_outs = [str(one) for one in form.getlist("opt_out")]
    return Chosen(preferences, opt_outs, queues, languages)


def _keymap(wanted: Mapping[str, str]) -> dict[str, str]:
    """Only what differs from the defaults, so that a new default reaches everybody else.

    Raises:
        InvalidInput: a key that can't be used, or one used twice.
    """
    keys: dict[str, str] = {}
    for action, (default, does) in ACTIONS.items():
        given = wanted.get(action, "").strip().lower()
        key = " " if given in ("space", "") and default == " " else given or default
        if key != " " and (len(key) != 1 or not key.isprintable() or key.isdecimal()):
            raise InvalidInput(f"“{does}” needs one key that is no digit: digits choose categories.")
        if key in keys.values():
            raise InvalidInput(f"“{does}” has a key that something else has already; choose another.")
        keys[action] = key
    return {action: key for action, key in keys.items() if key != ACTIONS[action][0]}


def _is_language(word: str) -> bool:
    return 2 <= len(word) <= 3 and word.isascii() and word.isalpha()


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value[:500] if isinstance(value, str) else ""


def _one_of(form: FormData, name: str, known: tuple[str, ...]) -> str:
    value = _text(form, name)
    if value not in known:
        raise InvalidInput("The form holds a value that it doesn't offer; load the page again.")
    return value


def _page(
    request: Request, held: Services, me: PersonPrincipal, *, saved: bool = False, fault: str = ""
) -> Response:
    with transaction(held.databases.content) as session:
        policy = held.policies.current(session)
        row = session.get_one(Person, me.person_id)
        context = {"opt_outs": row.opt_outs, "queues": row.queues, "languages": " ".join(row.languages)}
        chosen = preferences_of(row.preferences)
    return render(
        request,
        "settings/settings.html",
        422 if fault else 200,
        chosen=chosen,
        categories=list(policy.categories),
        severity_of={name: rule.severity for name, rule in policy.categories.items()},
        reveals_a_day=int(policy.review.exposure.reveals_a_day),
        in_a_row=int(policy.review.exposure.in_a_row),
        saved=saved,
        fault=fault,
        **context,
    )
