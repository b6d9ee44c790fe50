"""What is posted in a demonstrated day of review: mild, masked, in a few languages, with what is right to do."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Line:
    """A post and the truth about it: the rule it breaks, or None. `known` is what a bank knows."""

    text: str
    category: str | None = None
    language: str = "en"
    reports: int = 0
    comment: str | None = None
    known: bool = False
    author: str = "demo-author"
    thread: str = "demo-thread"
    reach: int | None = None
    picture: int | None = None


_TOPICS = ("the new bridge", "sourdough", "the late train", "our garden", "the second season", "that goalkeeper",
           "the library", "my old bicycle", "the weather", "this recipe", "the concert", "night buses")  # fmt: skip
_HARMLESS = {
    "en": ("I really enjoyed reading about {}, thank you for sharing.", "Has anybody else trouble with {} lately?",
           "We talked about {} all evening and could not agree.", "A short question about {}: where do I begin?",
           "I could not disagree more about {}, but you make a fair point."),
    "de": ("Danke für den Beitrag über {}, das hat mir geholfen.", "Weiß jemand mehr über {}?"),
    "es": ("Gracias por hablar de {}, me ha gustado mucho.", "¿Alguien sabe algo nuevo sobre {}?"),
    "fr": ("Merci pour ce message sur {}, c'est très utile.", "Quelqu'un a des nouvelles de {} ?"),
}  # fmt: skip
# (rule it breaks, language, text, how often readers report it)
_BREAKING = (
    ("harassment", "en", "You are an idi*t and nobody wants to hear your stupid opinion on {}.", 2),
    ("harassment", "en", "Shut up about {} already, you make me sick.", 1),
    ("harassment", "en", "This is the dumbest thing about {} I have read all week, you m*ron.", 1),
    ("harassment", "de", "Du bist so ein Vollidi*t, lass uns mit {} in Ruhe.", 2),
    ("harassment", "es", "Eres un id*ota, nadie quiere leerte sobre {}.", 2),
    ("harassment", "fr", "Tu es vraiment st*pide, tais-toi avec {}.", 1),
    ("hate", "en", "People from over there ruin {} for all of us, send them home.", 2),
    ("spam", "en", "Buy cheap watches now, limited offer, click example.org/deal, better than {}", 1),
    ("fraud", "en", "Send 50 in gift cards for {} and I will double your money, guaranteed.", 2),
    ("threat", "en", "One more word about {} and you will be sorry, I know where you park.", 2),
    ("self_harm", "en", "I feel so empty lately, not even {} helps, I do not know how to go on.", 1),
    ("misinformation", "en", "Doctors hide that {} cures every illness, wake up.", 1),
)
_UNFOUNDED = (
    "He called me an idiot over {} and the moderators did nothing.",
    "I do not like {}, there, I said it.",
)
_CAMPAIGNS = (
    "Earn 500 a day from home with no experience at all, message me for the free starter kit before Sunday",
    "Our forum friends get 70 percent off all designer shoes this week only, use the code FRIENDS at the checkout",
    "I lost everything until this trader recovered my coins within two days, write to him and tell him I sent you",
)
_EDITS = ("{}", "Hi all! {}", "{} https://example.org/{n}", "{}!!!", "Good news: {}")
_OVERDUE = (
    "En jaksa enää, kaikki tuntuu turhalta juuri nyt."  # "I can't any more, all seems pointless right now"
)
NOTES = ("Looks like the same person as yesterday.", "Context: they know each other from the thread.",
         "Borderline; clause H1 fits best.")  # fmt: skip
STATEMENTS = ("It was a quote from the film we were talking about.", "My friend and I joke like this all the time.",
              "Please look again, I only answered what was said to me.")  # fmt: skip
_COMMENTS = ("This is aimed at me.", "They post this in every thread.", None, None)


def lines(chance: random.Random, count: int) -> list[Line]:
    """`count` posts in the order in which they come."""
    made = [_one(chance) for _ in range(count - 3 * 12 - 3)]
    for text in _CAMPAIGNS:
        # A campaign comes in one go, from many accounts.
        start = chance.randrange(len(made) // 3, len(made))
        burst = [
            Line(
                chance.choice(_EDITS).format(text, n=chance.randrange(1000)), "spam", known=True,
                author=f"demo-new-account-{chance.randrange(900)}", reach=chance.randrange(5, 60),
            )
            for _ in range(12)
        ]  # fmt: skip
        made[start:start] = burst
    alone = Line(
        _OVERDUE, "self_harm", "fi", 1, "I am worried about them.", author="demo-author-fi", reach=40
    )
    for place in (20, 60, 90):
        made.insert(min(place, len(made)), replace(alone, author=f"demo-author-fi-{place}"))
    return made


def plain(chance: random.Random) -> Line:
    """A harmless post."""
    language = chance.choice(list(_HARMLESS))
    return _from(chance, Line(chance.choice(_HARMLESS[language]), language=language))


def _one(chance: random.Random) -> Line:
    drawn = chance.random()
    if drawn < 0.30:
        category, language, text, reports = chance.choice(_BREAKING)
        return _from(chance, Line(text, category, language, reports, chance.choice(_COMMENTS)))
    if drawn < 0.36:
        return _from(chance, Line(chance.choice(_UNFOUNDED), reports=1))
    line = plain(chance)
    return replace(line, picture=chance.randrange(1000)) if drawn > 0.96 else line


def _from(chance: random.Random, line: Line) -> Line:
    """`line` about something, by somebody, somewhere."""
    return replace(
        line,
        text=line.text.format(chance.choice(_TOPICS)),
        author=f"demo-author-{min(int(chance.paretovariate(0.7)), 120)}",
        thread=f"demo-thread-{chance.randrange(30)}",
        reach=round(10 ** chance.uniform(1, 4.5)),
    )
