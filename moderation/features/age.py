"""Statements of one's own age below 18: "I'm 14", "in 7th grade", "j'ai 13 ans".

Rules and no model: there is next to no labelled text of this. Only what somebody says of themselves and of
today counts: no quotation, nobody else, no "when I was 14", no "like I'm 5". What is found is a sign that a
person looks at, so it has one of two probabilities, set by hand and not measured on anybody's traffic: `STRONG`
for an age that is said, `WEAK` for one that only follows (a school class may be that of its teacher) or may be a
manner of speaking.

English, and the plain forms of German, French, Spanish and Portuguese. Digits and letters of a number may be
disguised (`１4`, `f0urt33n`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

STRONG = 0.6
WEAK = 0.3
ADULT = 18
YOUNGEST = 5
LONGEST = 20_000
MOST = 20


@dataclass(frozen=True, slots=True)
class Statement:
    """That the writer is under 18: `text[start:end]` says so. `age` in years, None where no number is said."""

    start: int
    end: int
    age: int | None
    probability: float


def _disguised(word: str) -> str:
    """An expression for `word` with its letters as they are or as the digits that look like them."""
    looks = {"o": "[o0]", "e": "[e3]", "i": "[i1!]", "t": "[t7]", "s": "[s5]", "x": "[x%]?"}
    return "".join(looks.get(letter, letter) if letter != "x" else "x" for letter in word)


_NAMES = (
    "five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
    "fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn",
    "cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept",
    "cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete",
    "cinco seis sete oito nove dez onze doze treze quatorze quinze dezesseis dezessete",
)
_VALUES = {name: YOUNGEST + place for names in _NAMES for place, name in enumerate(names.split())}
_SPELT = [(re.compile(_disguised(name)), value) for name, value in _VALUES.items()]
_WORDS = "|".join(sorted(map(_disguised, _VALUES), key=len, reverse=True))
_N = rf"(?P<n>1 ?[0-7](?![\d.,:]?\d)|(?<!\d)[5-9](?![\d.,:]?\d)|(?:{_WORDS})(?![a-zà-ÿ]))"
_GRADE = r"(?P<grade>1[0-2]|[1-9])"
_GRADE_NAMES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth"]  # fmt: skip
_GRADE_NAME = rf"(?P<named>{'|'.join(_GRADE_NAMES)})"

_I = r"\b(?:[i1]['’`´]?m|[i1] am|ima)\b"
_ONLY = r"(?: (?:only|just|like|literally|actually|still|almost|about to be|really|barely|currently|a|an|also|rn))*"
_YEARS = r"[ -]?(?:years?[ -]?olds?\b|yrs?[ -]?olds?\b|y[./ ]?o\b|yrs? old|years? of age)"
# What may follow a bare number for it to be an age: an end, a sign, or a word that goes on with something else.
_DONE = (
    r"(?=\s*(?:$|[.!?,;)…\n:'\"”-](?!\d)|(?:and(?! 0)|but|so|lol|btw|yet|now|rn|haha|lmao|tho|though"
    r"|because|cuz|bc|from|if|or|"
    r"going on|turning|male|female|girl|boy|[mf]|please|pls|help|idk|too|today|tomorrow|still|years?"
    r"|with|who|in (?:real life|"
    r"january|february|march|april|may|june|july|august|september|october|november|december))\b(?!"
    r" (?:of|into|in|long|later|late|"
    r"ago|since|older|younger|sober|clean|together|strong|apart)\b)|[\U0001f000-\U0001faff☀-➿]))"
)
_KID = (
    r"(?: (?:boy|girl|kid|male|female|teen|teenager|student|guy|dude|child|trans|gay|bi|gamer|artist|fan))?"
)
_WHEN = r"(?:in|on|next|this|last|tomorrow|today|yesterday|soon|tonight|and|but|so|lol|now|already|finally)\b"
_SOON = r"(?: (?:next|this|in|on|tomorrow|today|soon|tonight|later))"

_ENGLISH: tuple[tuple[str, float], ...] = (
    (rf"{_I}{_ONLY} {_N}{_YEARS}", STRONG),
    (rf"{_I}{_ONLY} {_N}(?: ?[mf]\b)?{_DONE}", STRONG),
    (rf"{_I}(?: only| just| about)? turning {_N}", STRONG),
    ((rf"\bi (?:turn|will turn|will be|am going to be|am gonna be|just turned|turned) {_N}(?! in (?:19|20)\d\d)"
      rf"(?=\s*(?:$|[.!?,;)…\n]|years old|{_WHEN}))"), STRONG),
    (rf"\bi['’]?ll be(?: turning)? {_N}{_SOON}", STRONG),
    (rf"^(?:just )?turn(?:ing|ed) {_N}(?:{_SOON}| lol)", STRONG),
    (rf"\bas an? {_N}{_YEARS}{_KID}(?=,| i\b| who\b| with\b| myself| from\b|$|[.!?])", STRONG),
    (rf"\b{_N} ?(?:y[./]?o|[mf]) here\b", STRONG),
    (rf"(?:^|\bhi\W+|\bhey\W+|\bhello\W+)\(?{_N} ?[/,]? ?[mf]\b", STRONG),
    (rf"\b{_N} ?/ ?[mf] ?/ ?\w+", STRONG),
    (rf"\bmy age is {_N}\b", STRONG),
    (rf"\b(?:it['’]?s |today is |tomorrow is )my {_N}(?:th)? (?:birthday|bday|b-day)", STRONG),
    (rf"\bmy {_N}(?:th)? (?:birthday|bday|b-day) (?:is|will be|party is)\b", STRONG),
    (r"\bmy sweet (?:sixteen|16) is\b()", STRONG),
    (rf"{_I}{_ONLY} in (?:the )?{_GRADE}(?:st|nd|rd|th) grade(?![a-z]| teach| class ?rooms)", STRONG),
    (rf"{_I}{_ONLY} in (?:the )?{_GRADE_NAME} grade(?![a-z]| teach)", STRONG),
    (rf"{_I}{_ONLY} in grade {_GRADE}\b", STRONG),
    (rf"{_I}{_ONLY} (?:a |an )?{_GRADE}(?:st|nd|rd|th)[ -]grader\b", STRONG),
    (rf"{_I}{_ONLY} in year {_GRADE}\b(?! of)", WEAK),
    (rf"{_I}{_ONLY} (?:in|at) (?:elementary|primary|middle|junior high) school(?! teach)\b", STRONG),
    (rf"{_I}{_ONLY} (?:in high ?school|a (?:freshman|sophomore) in high ?school)\b", WEAK),
    ((rf"{_I}{_ONLY} (?:under|below|younger than) (?:18|eighteen)\b(?!%| (?:minutes|hours|percent|bucks"
     rf"|seconds|kilos|pounds))"), STRONG),
    (rf"{_I} not(?: even)? (?:18|eighteen)(?: years old)? yet\b|{_I} not even (?:18|eighteen)\b", STRONG),
    ((rf"{_I}{_ONLY} (?:underage|under age|a minor)\b(?! (?:in|character|league|at|part|celebrity"
     rf"|player))"), STRONG),
    (rf"{_I} still a (?:kid|child)\b(?! at heart| inside)", WEAK),
    (rf"\bwhen i turn {_N}(?=\W|$)", WEAK),
)  # fmt: skip
_GERMAN = (
    ((rf"\b(?:ich )?bin (?:erst |gerade (?:mal )?|noch |schon |jetzt |auch "
     rf"|ja )*{_N}(?: jahre?(?: alt)?\b(?! (?:lang|verheiratet|im|beim|dabei|her))|(?=\s*(?:$"
     rf"|[.!?,;)](?!\d)|und\b|aber\b)))"), STRONG),
    (rf"\bich werde (?:\w+ ){{0,3}}{_N}(?=\s*(?:$|[.!?,;]|jahre|und\b))", STRONG),
    (rf"\bich (?:gehe|geh|bin) (?:\w+ )?in (?:die|der) {_GRADE}\.? ?klasse\b", STRONG),
    (rf"\bmein {_N}\.? geburtstag ist\b", STRONG),
    (r"\b(?:ich )?bin (?:noch |leider )*(?:minderjährig|keine 18|nicht (?:mal )?18|unter 18)\b", STRONG),
)  # fmt: skip
_FRENCH = (
    (rf"\bj['’ ]?ai (?:que |seulement |juste |presque |bientôt )*{_N} ans\b(?! (?:d['’]|de\b))", STRONG),
    (rf"\bje (?:vais (?:bientôt )?avoir|viens d['’]avoir|fête mes) {_N} ans\b", STRONG),
    (r"\bje suis (?:encore |toujours )?mineure?\b(?! (?:en|de fond))", STRONG),
    (r"\bje suis en (?:6|5|4|3)(?:e|è|ème|eme|ième)\b(?! (?:position|place|année))", STRONG),
)
_SPANISH = (
    ((rf"\btengo (?:solo |sólo |apenas |casi |ya )*{_N} a(?:ñ|n|ni)os\b(?! (?:de (?!edad)|trabaj|casad"
     rf"|viviendo|en\b|sin\b|con\b))"), STRONG),
    (rf"\b(?:voy a cumplir|cumplo|acabo de cumplir|cumpliré) {_N}\b(?! años (?:de (?!edad)|en\b))", STRONG),
    (r"\bsoy menor de edad\b", STRONG),
)  # fmt: skip
_PORTUGUESE = (
    (
        rf"\btenho (?:só |apenas |quase |já )*{_N} anos?\b(?! (?:de (?!idade)|trabalh|casad|em\b|sem\b|com\b))",
        STRONG,
    ),
    (rf"\b(?:vou fazer|faço|acabei de fazer|farei) {_N}(?: anos)?\b(?! (?:de (?!idade)|em\b))", STRONG),
    (r"\bsou menor de idade\b", STRONG),
)
_ALL = (*_ENGLISH, *_GERMAN, *_FRENCH, *_SPANISH, *_PORTUGUESE)
_RULES = [(re.compile(expression, re.MULTILINE), probability) for expression, probability in _ALL]
_BORN = re.compile(
    r"\b(?:i was|i['’]?m|i am|ich bin|ich wurde) (?:born )?(?:in )?(?P<year>20\d\d)(?: geboren)?\b"
)
_BORN_WORD = re.compile(r"born|geboren")

# Nothing is said in a text without one of each; to search for them costs a tenth of the rules.
_AGE_HINT = re.compile(
    rf"\d|{_WORDS}|{'|'.join(_GRADE_NAMES)}|minor|underage|under age|school|\bkid\b|child|eighteen"
    rf"|minderj|mineur|menor"
)
_HINT = re.compile(
    r"\b[i1]['’`´]?m\b|\b[i1] am\b|\bi (?:turn|will|just)|\bi['’]?ll be|turn(?:ing|ed)|\bas an? |\bmy |\bmein "
    r"|here\b|/ ?[mf]\b|\d ?[/,]? ?[mf]\b|\bbin\b|"
    r"\bich\b|\bj['’ ]?ai\b|\bje\b|\btengo\b|cumpl|\bsoy\b|\btenho\b|fa[zç]|\bsou\b|\bi was born"
)
# Said before it, these make it a comparison, an assumption, somebody else's word or somebody else's.
_UNSAID = re.compile(
    r"(?:\b(?:like|if|as if|pretend(?:ing|ed)?|imagine|imagining|think(?:s|ing)?|thought|assum\w+"
    r"|feels?|feeling|says?|said|saying|told|"
    r"tells?|believ\w+|acts?|acting|wish(?:es|ed)?|guess\w*|since|whether|unless|suppose|als ob|wenn"
    r"|comme si|si|cuando|quando|quand|als)"
    r"(?: (?:that|me|us|you|him|her|them|people|as|like|everyone|dass))*|[>:] ?[\"“«'])\s*$"
)
_QUOTES = ('"', "“”", "«»", "„“")


def statements(text: str, year: int) -> tuple[Statement, ...]:
    """What `text` says of its writer's age if that is below 18, in the order of places, at most `MOST`.

    `year` is the present one, for those who say when they were born.
    """
    folded, places = _folded(text[:LONGEST])
    if not (_AGE_HINT.search(folded) and _HINT.search(folded)):
        return ()
    found: list[Statement] = []
    for one in _said(folded, year):
        if _stands(folded, one.start) and not any(_overlap(one, other) for other in found):
            found.append(one)
            if len(found) == 10 * MOST:
                break
    original = [
        Statement(places[one.start], places[one.end - 1] + 1, one.age, one.probability) for one in found
    ]
    return tuple(sorted(original, key=lambda one: one.start)[:MOST])


def _overlap(one: Statement, other: Statement) -> bool:
    return one.start < other.end and other.start < one.end


def _said(folded: str, year: int) -> Iterator[Statement]:
    for rule, probability in _RULES:
        for found in rule.finditer(folded):
            yield Statement(found.start(), found.end(), _age(found), probability)
    for found in _BORN.finditer(folded):
        age = year - int(found["year"])
        if 0 < age < ADULT and _BORN_WORD.search(found[0]):
            yield Statement(found.start(), found.end(), age, STRONG)


def _age(found: re.Match[str]) -> int | None:
    """The age that a rule's match says; of a school class, the usual one at its beginning."""
    said = found.groupdict()
    if (number := said.get("n")) is not None:
        digits = number.replace(" ", "")
        if digits.isdigit():
            return int(digits)
        return next(value for pattern, value in _SPELT if pattern.fullmatch(number))
    if (grade := said.get("grade")) is not None:
        return int(grade) + 5
    if (named := said.get("named")) is not None:
        return _GRADE_NAMES.index(named) + 6
    return 16 if "sweet" in found[0] else None


def _stands(folded: str, start: int) -> bool:
    """Whether what is said at `start` is the writer's own word on themselves."""
    before = folded[max(0, start - 200) : start]
    if _UNSAID.search(before[-60:]):
        return False
    line = before.rpartition("\n")[2]
    if line.lstrip().startswith(">"):
        return False
    return all(not _open(before, quotes) for quotes in _QUOTES)


def _open(before: str, quotes: str) -> bool:
    if len(quotes) == 1:
        return before.count(quotes) % 2 == 1
    return before.count(quotes[0]) > before.count(quotes[1])


def _folded(text: str) -> tuple[str, list[int]]:
    """`text` in lower case, plain characters and single blanks, and for each of its characters where it stood."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        plain = character.lower() if character.isascii() else _plain(character)
        if plain.isspace() and plain != "\n":
            plain = " " if not characters or characters[-1] not in " \n" else ""
        characters += plain
        places += [place] * len(plain)
    return "".join(characters), places


def _plain(character: str) -> str:
    if unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return ""
    return unicodedata.normalize("NFKC", character).lower()
