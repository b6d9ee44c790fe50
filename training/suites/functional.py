"""The functional suite: what a model has to tell apart, function by function, in sentences of our own.

Behavioural testing after Ribeiro et al. 2020 (CheckList) and Roettger et al. 2021 (HateCheck). Wording is mild or
masked on purpose; the cases were written by someone who had not seen the training contrasts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.common import TrainingError

PATH = Path(__file__).with_name("functional.jsonl")
JUDGED = frozenset(
    {"hate", "harassment", "threat", "self_harm", "sexual", "spam", "fraud", "toxicity", "profanity"}
)
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Function:
    """One behaviour: its cases bear label 1 if `harmful`; a goal of its own counts those that are `non_hateful`."""

    description: str
    harmful: bool
    non_hateful: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence: `label` says whether `head` should answer yes; `group` is who is spoken of, if a group is."""

    function: str
    head: str
    label: int
    text: str
    group: str | None = None


def _yes(description: str) -> Function:
    return Function(description, harmful=True)


def _no(description: str, *, non_hateful: bool = False) -> Function:
    return Function(description, harmful=False, non_hateful=non_hateful)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "dehumanisation": _yes("A protected group is called animals, vermin, disease or things."),
        "exclusion": _yes("A protected group is to be thrown out, kept apart or stripped of rights."),
        "inferiority": _yes("A protected group is said to be worth less or able to do less by nature."),
        "implicit_derogation": _yes(
            "A stereotype is insinuated; no word of the sentence is hateful by itself."
        ),
        "hate_question": _yes("Hate put as a question."),
        "hate_opinion": _yes("Hate put as an opinion, belief or feeling of one's own."),
        "hate_threat": _yes("Violence against a protected group is threatened, wished or called for."),
        "hate_spelling": _yes("Hate with spaces, leet, missing, masked or repeated letters."),
        "hate_emoji": _yes("Hate of which an emoji carries the point."),
        "hate_pronoun": _yes("The group stands in one sentence, the hate in the next, tied by a pronoun."),
        "insult_person": _yes("A person is insulted."),
        "degrading_comparison": _yes("A person is degraded by being compared with something."),
        "direct_threat": _yes("The writer says that he will hurt or kill someone."),
        "veiled_threat": _yes("Violence is announced without being named."),
        "conditional_threat": _yes("Violence is announced unless somebody does or stops something."),
        "suicidal_intent": _yes("The writer means to end or hurt himself."),
        "self_harm_request": _yes("The writer asks for help or encouragement to hurt himself."),
        "self_harm_incitement": _yes("Somebody is told to hurt or kill himself."),
        "phishing": _yes("Credentials, codes or card numbers are asked for under a false name."),
        "fake_prize": _yes("A prize nobody drew for, against data or a fee."),
        "advance_fee": _yes("A fortune, job, loan or bargain that begins with a payment."),
        "romance_money": _yes("Love, and then money."),
        "advertising": _yes("Advertising that nobody asked for."),
        "sexual_solicitation": _yes("Sex or sexual pictures are asked for or offered, among adults."),
        "negated_hate": _no("A hateful statement is denied.", non_hateful=True),
        "counter_quote": _no("Counter-speech that quotes the hate it answers.", non_hateful=True),
        "counter_reference": _no("Counter-speech that refers to hate without quoting it.", non_hateful=True),
        "quotation": _no("News, courts, history and research that report hate.", non_hateful=True),
        "reclaimed": _no(
            "Words once used against a group, used by its members of themselves.", non_hateful=True
        ),
        "neutral_identity": _no("A group is named and nothing is said against or for it.", non_hateful=True),
        "positive_identity": _no("Something good is said of a group.", non_hateful=True),
        "object_abuse": _no("Abuse of things, animals and weather."),
        "criticism": _no("Ideas, institutions, governments and politicians are criticised."),
        "non_protected": _no("Hostility to professions, fans and habits, which no policy on hate protects."),
        "individual_abuse": _no(
            "A person is abused for what he did; insulting, and no hate against a group."
        ),
        "profanity_untargeted": _no("Swearing at nobody."),
        "figurative_violence": _no("Violent words for games, sport, work and jokes."),
        "self_harm_prevention": _no("Help, recovery and prevention."),
        "grief": _no("Mourning."),
        "figurative_death": _no("Death as a figure of speech."),
        "sex_education": _no("Medicine and education about the body and sex."),
        "scam_warning": _no("Warnings about fraud, and questions about it."),
        "legitimate_notice": _no("What honest banks, shops, carriers and offices write."),
        "banter": _no("Teasing among people who like each other."),
    }
)


def load(path: Path = PATH) -> tuple[Case, ...]:
    """The suite, in the order of its file.

    Raises:
        TrainingError: a line lacks a field, has one too many, or says what its function does not.
    """
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"Line {number} of {path.name}"
        try:
            case = Case(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{where} is no case: give function, head, label and text.") from error
        cases.append(_checked(case, where))
    if len({case.text for case in cases}) != len(cases):
        raise TrainingError(f"{path.name} holds a text twice: leave one of them out.")
    return tuple(cases)


def _checked(case: Case, where: str) -> Case:
    function = FUNCTIONS.get(case.function)
    if function is None:
        raise TrainingError(f"{where} has a function that FUNCTIONS does not describe: add it there.")
    if case.head not in JUDGED:
        raise TrainingError(
            f"{where} names a head that the suite does not judge: name one of {sorted(JUDGED)}."
        )
    if type(case.label) is not int or case.label != int(function.harmful):
        raise TrainingError(
            f"{where} has another label than its function: it has to be {int(function.harmful)}."
        )
    if not isinstance(case.text, str) or not case.text.strip():
        raise TrainingError(f"{where} has no text: write one.")
    if case.group is not None and not isinstance(case.group, str):
        raise TrainingError(f"{where} has a group that is no name: leave it out or write one.")
    return case


def functional_report(
    cases: Sequence[Case],
    probabilities_by_head: Mapping[str, NDArray[np.float64]],
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """How often the model is right: over all cases, over harmful, harmless and non-hateful ones, and per function.

    `probabilities_by_head` holds, per head, one probability for each of `cases` in their order (n,); a case is
    answered yes from the head's threshold on (0.5 where `thresholds` names none).

    Raises:
        ValueError: a head is missing or its probabilities are not one per case.
    """
    thresholds = thresholds or {}
    right = np.zeros(len(cases), dtype=bool)
    for head in sorted({case.head for case in cases}):
        probability = np.asarray(probabilities_by_head.get(head, ()), dtype=np.float64)
        if probability.shape != (len(cases),):
            raise ValueError(f"{head} needs one probability per case")
        mine = np.array([case.head == head for case in cases])
        truth = np.array([case.label == 1 for case in cases])
        right[mine] = ((probability >= thresholds.get(head, THRESHOLD)) == truth)[mine]
    of = np.array([case.function for case in cases])
    kinds = [FUNCTIONS[case.function] for case in cases]
    return {
        "overall": _share(right),
        "harmful": _share(right[np.array([kind.harmful for kind in kinds], dtype=bool)]),
        "harmless": _share(right[np.array([not kind.harmful for kind in kinds], dtype=bool)]),
        "non_hateful": _share(right[np.array([kind.non_hateful for kind in kinds], dtype=bool)]),
        "functions": {name: _share(right[of == name]) for name in FUNCTIONS if (of == name).any()},
    }


def _share(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Cases, how many of them are right, and the share; None where there is no case."""
    return {
        "cases": len(right),
        "right": int(right.sum()),
        "accuracy": float(right.mean()) if len(right) else None,
    }
