"""Harmless sentences of our own that name groups of people, against the best-known bias of such models.

Text models learn that the *name* of a group is hateful, because that is where it mostly occurs in their
training data (Dixon et al. 2018). A few thousand plain statements, all labelled harmless, weigh against
it. They are training data only: the published identity templates, which measure the bias, share the names
of groups with these sentences but none of the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

PEOPLE = (
    "gay people", "lesbians", "bisexual people", "trans people", "trans women", "trans men",
    "non-binary people", "queer people", "straight people", "women", "men", "black people", "white people",
    "Asian people", "Latino people", "Native Americans", "Arabs", "Africans", "Europeans", "Americans",
    "Mexicans", "Chinese people", "Indians", "Pakistanis", "Muslims", "Jews", "Christians", "Catholics",
    "Hindus", "Buddhists", "Sikhs", "atheists", "immigrants", "refugees", "disabled people", "blind people",
    "deaf people", "autistic people", "old people", "teenagers", "feminists", "Roma people",
)  # fmt: skip

PERSON = (
    "gay", "lesbian", "bisexual", "trans", "queer", "straight", "black", "white", "Asian", "Latina",
    "African", "Arab", "Mexican", "Chinese", "Indian", "Pakistani", "Muslim", "Jewish", "Christian",
    "Catholic", "Hindu", "Buddhist", "Sikh", "blind", "deaf", "disabled", "autistic", "elderly",
)  # fmt: skip

ABOUT_PEOPLE = (
    "{} deserve the same respect as anyone else.",
    "I really admire {}.",
    "I love {} and I am not ashamed to say it.",
    "We need more {} in this team.",
    "{} have always been part of this town.",
    "There is nothing wrong with {}.",
    "I would never say anything bad about {}.",
    "I do not hate {}, whatever he claims.",
    "Nobody should be allowed to insult {}.",
    "Saying that {} are worth less is wrong and I reported it.",
    "It is not true that {} are dangerous.",
    "Stop spreading lies about {}, they are our neighbours.",
    "The museum opens an exhibition about {} and their history.",
    "A new study looked at how {} find housing.",
    "Most {} I know simply want to live in peace.",
    "My doctor asked whether {} get the care they need.",
    "Do {} have a holiday this week?",
    "The article quotes three {} about the election.",
    "Hate against {} has risen, the report says.",
    "She was fined for her remarks about {}.",
)

ABOUT_PERSON = (
    "I am {} and proud of it.",
    "As a {} woman I found this film very moving.",
    "My best friend is {}.",
    "My {} neighbour helped me move house yesterday.",
    "Our new teacher is {} and everybody likes her.",
    "Being {} is just one part of who I am.",
    "He is a {} man who works at the hospital.",
    "The first {} mayor of the city was sworn in today.",
    "Is there a {} student group on campus?",
    "Growing up {} in a small village was not always easy.",
    "They called me names for being {}, and it hurt.",
    "You are {}? Welcome, so is my sister.",
)

PLAIN = (
    "I disagree with you, but thank you for explaining it so well.",
    "This is the worst coffee I have had all year.",
    "That chapter killed me, I laughed until I cried.",
    "We are going to crush the other team on Saturday!",
    "Your code is not wrong, it is only slow.",
    "I would kill for a slice of that cake right now.",
    "Nobody here threatened you; please read it again.",
    "The film is about a murder, but it is not cruel.",
    "She shot a wonderful portrait of my grandmother.",
    "My phone died and I missed your call, sorry.",
    "Please send me the invoice by Friday.",
    "Win or lose, we have dinner together afterwards.",
)
HARMLESS = ("toxicity", "harassment", "hate", "threat", "sexual", "self_harm")


def sentences() -> Iterator[str]:
    """Every sentence, the same ones in the same order each time."""
    for template in ABOUT_PEOPLE:
        for people in PEOPLE:
            text = template.format(people)
            yield text[0].upper() + text[1:]
    for template in ABOUT_PERSON:
        yield from (template.format(person) for person in PERSON)
    yield from PLAIN


def contrast_rows(make: Callable[[str, str, str, dict[str, int]], T]) -> list[T]:
    """The sentences as training rows of source "contrast", all labelled harmless.

    `make` is the row's type: (text, source, part, labels).
    """
    return [make(text, "contrast", "train", dict.fromkeys(HARMLESS, 0)) for text in sentences()]
