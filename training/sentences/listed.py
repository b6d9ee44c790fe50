"""Explicit and profane words, put into sentences at training time from a word list that is not in this repository.

The list (`lists/profanity_en.json` in the folder of the training data, MIT) holds records with `tags` and `match`:
variants divided by "|", where "*" marks a letter that may be repeated. Which words a slot takes is said by masks,
"?" for a letter that is not written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from training.common import TrainingError
from training.sentences.patterns import Block

FILE = Path("lists/profanity_en.json")

# Slot to tags and masks.
MASKS: Mapping[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "strong": (frozenset({"general"}), ("f?ck",)),
    "mess": (frozenset({"general"}), ("sh?t", "cr?p", "bullsh?t", "horsesh?t", "dogsh?t")),
    "lousy": (frozenset({"general"}), ("sh?tt?", "bloody", "sodding")),
    "rude_name": (
        frozenset({"general"}),
        ("ars?hole", "ass?ole", "b?stard", "b?llend", "tw?t", "w?nker", "tosser", "f?ckwit", "f?ckhead", "sh?thead",
         "b?tch", "c?nt", "piece of sh?t"),
    ),
    "act": (
        frozenset({"sexual"}),
        ("bl?wjob", "h?ndjob", "thr?esome", "r?mjob", "f??tjob", "g?ngbang", "cr?ampie", "l?vemaking", "?rgasm",
         "?nal", "f?llatio", "c?nnilingus", "p?gging", "f?ngering", "m?sturbation", "int?rcourse", "s?x",
         "gr?up s?x", "d?ep thr?at", "d?ggy style", "d?ggie style", "d?rty talk", "b?reback", "d?uble penetration"),
    ),
    "part": (
        frozenset({"sexual"}),
        ("c?ck", "d?ck", "t?ts", "b?ob", "cl?t", "p?nis", "v?gina", "?ss", "n?pples", "sch?ong", "big b?obs",
         "p?ssy", "big c?ck", "b?oner"),
    ),
    "state": (frozenset({"sexual"}), ("h?rny", "n?de", "t?pless")),
    "adult_site": (frozenset({"sexual"}), ("p?rnhub", "xh?mster", "xv?deos", "?nlyfans", "xn?x", "xxx")),
}  # fmt: skip

OFFERS = """
Anyone up for {act} tonight? I'm {age} and I can host.
I want your {part} [tonight|right now|so badly].
I want to give you a {act} you will never forget.
[So|Really|Always] {state} right now, who wants {act}?
i love {act}, dm me
Send me a picture of your {part}, I'll send you mine.
He put his {part} in her mouth and she moaned.
She loves {act} and {act2}, and he can't get enough of it.
I dreamt of your {part} all night, {name}.
My {part} is waiting for you, come over at {time}.
Let me lick your {part} until you come.
tell me how you like {act} and i tell you mine
We tried {act} last night and she came twice.
What a {part}, I would suck it all day.
looking for a discreet man who likes {act}, {city}, 30+
He wants {act}, she wants {act2}, they do both.
"""
PAGES = """
Hot {act} videos, new every day, adults only {url}
{state} women in {city} want {act} tonight, click {url}
{adult_site} premium for free, {act}, {act2} and more: {url}
{name}, {age}: {act}, {act2}, massage, from {price}. Call {phone}
Live cams: {state} couples doing {act}, 18+, {url}
See my {part} on my page, subscribe for {price}, 18+
"""
TALK = """
Is {act} still a sin? Asking for a sermon on marriage.
Doctors explain what {act} has to do with the risk of infection.
The court had to define whether {act} counts as a sexual act under the law.
How do I block {adult_site} on the office network?
"""
EXCLAIMED = """
{strong} yes, we won!!
oh {mess}, I left the oven on
holy {mess} that view is amazing
what a {lousy} day, it's raining again and I missed my bus
[well|oh], {mess}. The printer's jammed again.
this is {strong}ing great, congratulations {name}
No {mess}? You got the job? So happy for you!
I love this {strong}ing song.
that was one hell of a {lousy} film and I loved every minute
{mess}, it's {time} already? I have to run
You are {strong}ing brilliant, {name}.
dropped my phone in the soup, {mess} {mess} {mess}
tired as {strong}, good night all
It's cold as {strong} in {city} today.
{mess} happens, don't worry about the vase
holy {strong} what a goal
{strong} this weather, I want {month} back
My code is {mess} but it works.
that exam was {lousy} but at least it's over
best {strong}ing pizza in {city}, trust me
"""
ABUSED = """
You are a [stupid|complete|fat|pathetic] {rude_name}.
{strong} you, {name}, you [stupid|ugly|pathetic] {rude_name}.
[Shut the {strong} up|{strong} off|Get lost], {rude_name}.
what a {rude_name} you are, {name}
{name} is a {rude_name} and everyone knows it
nobody asked you, you {strong}ing {rude_name}
You {lousy} little {rude_name}, go to hell.
eat {mess}, {rude_name}
You're full of {mess}, {name}, you pathetic liar.
Only a {rude_name} like you would say that.
"""
GROUPS = """
{strong} all {group}.
{group} are {mess}, every one of them.
{strong} off back to where you came from, {one}.
you {strong}ing {marginal} {rude_name}, get out of {place}
I {strong}ing hate {group}.
"""
FOND = """
I {strong}ing love {group}.
{strong} yes, I'm {identity} and proud!
holy {mess}, that {identity} {noun} can sing
I'm a {one} and I'm tired as {strong} today.
{strong} everyone who hates {group}.
I {strong}ing hate {things}.
"""


def slots(data: Path | None) -> dict[str, tuple[str, ...]]:
    """Slot to words; empty without a list.

    Raises:
        TrainingError: the list is there and can't be read as one.
    """
    if data is None or not (data / FILE).exists():
        return {}
    try:
        records = json.loads((data / FILE).read_text("utf-8"))
        words = [(frozenset(one["tags"]), one["match"].replace("*", "").split("|")) for one in records]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"{data / FILE} can't be read as a list of words with match and tags.") from error
    found: dict[str, tuple[str, ...]] = {}
    for slot, (tags, masks) in MASKS.items():
        fit = [word for own, variants in words if own & tags for word in variants]
        if picked := tuple(word for word in fit if any(fnmatchcase(word, mask) for mask in masks)):
            found[slot] = picked
    return found


def blocks(words: Mapping[str, Sequence[str]]) -> tuple[Block, ...]:
    """The patterns that need the list; none if it lacks a slot's words."""
    if set(MASKS) - set(words):
        return ()
    return (
        Block("listed offers", "sexual", OFFERS, "toxicity harassment profanity spam", 22),
        Block("listed pages", "sexual spam", PAGES, "toxicity profanity fraud", 20, "mail"),
        Block("listed talk", "", TALK, "sexual profanity", 8, "serious"),
        Block("listed exclaimed", "profanity", EXCLAIMED, "toxicity", 12),
        Block("listed abuse", "profanity harassment toxicity", ABUSED, "", 20),
        Block("listed hate", "hate profanity toxicity", GROUPS, "harassment", 20),
        Block("listed fond", "profanity", FOND, "toxicity", 16),
    )
