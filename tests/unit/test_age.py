"""Statements of being under 18: what somebody says of themselves today, and nothing that only sounds like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.features import age
from moderation.features.age import STRONG, WEAK, statements

YEAR = 2026
SAID = """\
14|I'm 14
14|im 14 lol
13|I am 13 years old
15|i'm 15 btw, don't tell
12|Hi, I'm only 12 and I love this game
16|im 16 and my parents don't know I'm here
17|I'm 17, turning 18 in May
11|i am 11 yrs old
13|im 13 yo
15|im 15 y/o
14|I'm 14f from Ohio
16|i'm almost 16!
13|turning 13 next week
14|I'm turning 14 tomorrow
12|I turn 12 on Sunday
15|just turned 15 lol
16|I just turned 16
13|i'll be 13 in May
15|as a 15 yo I hate school
14|As a 14 year old, I can say this is true.
16|as a 16-year-old girl who plays chess
13|13yo here, what should I do?
15|15 f here
14|14/f/uk anyone?
12|my age is 12
16|my 16th birthday is tomorrow
13|it's my 13th birthday!
14|My 14th bday is next Friday
16|my sweet sixteen is on Saturday
12|im in 7th grade
13|I'm in 8th grade and math is hard
11|i'm in sixth grade
14|I'm in grade 9
11|I'm a 6th grader
None|im in middle school
None|I'm still in elementary school
None|i'm under 18
None|I'm underage, so no
None|I'm a minor, please stop
None|im not even 18
None|I'm not 18 yet
14|I was born in 2012
15|im fifteen
13|I am thirteen years old
14|I'm f0urteen
15|im f1ft33n
14|I'm １４
14|im ⑭
13|I\u2019m 13, is that ok?
9|im 9 and i can type fast
8|I'm eight years old
14|ich bin 14
13|Ich bin 13 Jahre alt und suche Freunde
15|ich werde bald 15
13|ich gehe in die 8. Klasse
None|ich bin noch minderjährig
16|Mein 16. Geburtstag ist morgen
13|j'ai 13 ans
15|J\u2019ai 15 ans et toi ?
14|je vais avoir 14 ans
None|je suis mineure
12|tengo 12 años
15|voy a cumplir 15
None|soy menor de edad
13|tenho 13 anos
14|vou fazer 14 anos
None|sou menor de idade
"""
NOT_SAID = """\
I'm 18
I'm 25 years old
I'm 114 years old, or so it feels
when I was 14 I broke my arm
I was 14 when we moved
back when I was 15 years old
explain like I'm 5
ELI5 please, like I'm 12
he treats me as if I'm 12
she said "I'm 14"
The girl wrote \u201cI'm 13\u201d and left
> I'm 14
> im 13 lol
my son says I'm 14 points behind
my daughter is 14
My sister is in 7th grade
he's 15 years old
she is 13
they are 16 and 17
my son just turned 12
we have a 14 year old at home
a 15 year old boy was found
people think I'm 15
everyone says I'm 16
they thought I'm 12
I feel like I'm 13 again
pretend I'm 14
imagine I'm 15
if I'm 16 then you're 40
I'm 14 minutes away
I'm 15 minutes late
I'm 5 minutes from home
I'm 14 weeks pregnant
I'm 12 hours into this shift
I'm 10 years sober
I'm 15 years into my career
I'm 17 years older than him
I'm 14 days clean
I'm 6 feet tall
I'm 5'10
I'm 5 ft 9
I'm 14th in line
I'm 13% done
I'm 15 of 20 through the list
I'm 16 chapters in
I'm 12 episodes behind
I'm 10/10 happy
I'm 7.5 on that scale
I'm 15,000 steps in
I'm 14:30 to 18:00 at work
I'm 10 miles out
I'm 9 points ahead
I'm 5 of those people
I'm 17 kilos down
I'm 8 months along
I'm number 14
I teach 7th grade
I was in 7th grade then
I'm in 7th grade classrooms every day
I'm a 7th grade teacher
my 16th birthday was the best
for my 16th birthday I got a bike
I remember my 13th birthday
as a 15 year old car it runs well
as a 12 year old company we know
I was born in 1990
I was born in 2001
he was born in 2012
I'm a minor character in this story
I'm a minor league player
under 18s play on Saturday
no one under 18 is allowed
Are you under 18?
are you 14?
what are you, 12?
you sound 14
you're 13 lol
I have 14 cats
I need 15 minutes
room 14 is free
it takes 12 years to learn
a kid at heart
I'm still a kid at heart
I turned 13 in 1998
I turn 16 pages a minute
ich bin 25
ich bin 14 Tage im Urlaub
ich bin 15 Jahre verheiratet
als ich 14 war
mein Sohn ist 14
j'ai 25 ans
j'ai 15 ans d'expérience
quand j'avais 14 ans
mon fils a 13 ans
tengo 30 años
tengo 15 años de experiencia
cuando tenía 14 años
mi hija tiene 12 años
tenho 15 anos de experiência
quando eu tinha 13 anos
minha filha tem 10 anos
"""


def _cases() -> list[tuple[str, int | None]]:
    rows = [line.split("|", 1) for line in SAID.splitlines()]
    return [(text, None if number == "None" else int(number)) for number, text in rows]


def test_all_statements_are_found_with_their_age() -> None:
    cases = _cases()
    assert len(cases) >= 60
    missed = [text for text, _ in cases if not statements(text, YEAR)]
    assert not missed
    wrong = [
        (text, said[0].age) for text, number in cases if (said := statements(text, YEAR))[0].age != number
    ]
    assert not wrong


def test_nothing_that_only_sounds_like_it_is_found() -> None:
    hard = NOT_SAID.splitlines()
    assert len(hard) >= 80
    found = [
        (text, [text[one.start : one.end] for one in said])
        for text in hard
        if (said := statements(text, YEAR))
    ]
    assert not found


def test_a_span_is_where_it_stands() -> None:
    text = "Hello\u200b there!  I\u2019m ⑭  and new."
    (said,) = statements(text, YEAR)
    assert text[said.start : said.end] == "I\u2019m ⑭"
    assert (said.age, said.probability) == (14, STRONG)


def test_what_only_follows_is_weak() -> None:
    (said,) = statements("I'm in high school", YEAR)
    assert said.probability == WEAK


def test_a_quotation_that_ended_is_none() -> None:
    assert statements('He asked "how old are you?" and I said well, I\'m 14.', YEAR)
    assert not statements('He asked "how old? I\'m 14" and left.', YEAR)


@pytest.mark.parametrize("text", ["I'm 14. " * 100, "im 13\n" * 5_000])
def test_no_more_than_so_many_are_told(text: str) -> None:
    assert len(statements(text, YEAR)) <= age.MOST


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("I'm 14 y/o \"><½⑭"), max_size=200
    )
)
def test_spans_lie_inside(text: str) -> None:
    for said in statements(text, YEAR):
        assert 0 <= said.start < said.end <= len(text)
        assert said.age is None or 0 < said.age < age.ADULT
