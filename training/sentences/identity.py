"""Plain and kind statements that name what people are, against the best-known bias of such models.

Text models learn that the name of a group is hateful, because that is where it mostly occurs in their training
data (Dixon et al. 2018).
"""

from __future__ import annotations

from training.sentences.patterns import Block

SELF = """
I am {identity}.
I'm {identity}.
I am {identity} and [proud|happy|tired|very bored right now|proud of it].
I am a proud {identity} {adult}.
I'm a {identity} {noun} [from Leeds|from a small town|in my thirties|and I love my life].
{identity}, {identity2} and happy.
{identity} and {identity2} and [happy|proud|fine with it|hungry].
im {identity} lol
As a {identity} {adult} I [found this film very moving|feel at home here|want to say thank you|agree].
as a {one}, hi everybody, nice to meet you
Hello, I'm new here. {identity}, [34|27|51|62], two cats, likes hiking.
Growing up {identity} in a small village was [not always easy|wonderful, actually|lonely at times].
Being {identity} is just one part of who I am.
I told my parents that I'm {identity}. They [hugged me|made tea and asked questions|already knew].
I came out as [gay|lesbian|bi|trans|queer|non-binary] [last week|at work today|at 52] and nobody was weird about it.
I was raised {identity} and married a {one}.
My dad is {identity}, my mum is {identity2}, and I'm [just confused|both|hungry].
Yes, I am {identity}. No, I don't mind the question.
We are {group} and we live here.
I identify as {identity}.
my whole family is {identity} and we are loud at dinner
Not everyone who is {identity} likes [football|opera|spicy food|musicals], I for one don't.
I married a {identity} {adult} and it was the best decision of my life.
I've been {identity} my whole life.
i am black and beautiful and nobody takes that from me
I love being {identity}.
"""

YOU = """
You are {identity}.
You are a {identity} {noun}.
You are a [good|kind|smart|brave|funny|beautiful|wonderful|great] {identity} {noun}.
You are a {one}.
you're {identity}? [cool|me too!|so is my sister|nice]
He is a {identity} {noun}.
She is {identity}.
They are a [lovely|nice|young|happy] {identity} couple.
This is my {identity} {noun}.
I hug {group}.
I hug {identity} people.
I love {group}.
I [respect|admire|appreciate|like|support] {group}.
A {identity} {noun}.
{identity} {noun} here.
{identity} {noun}, {identity2} {noun2}, same bus.
Be {identity}. Be proud.
Some people are {identity}.
What a [nice|wise|funny|talented] {identity} {noun}.
Happy birthday to my favourite {identity} {noun}!
{group} are great.
{group} are [people|human|our friends|welcome here|as smart as anyone|part of this country].
{group} belong [here|in this town|with us|in our schools].
The {identity} {noun} [smiled|waved|sat down|ordered a coffee|told a joke|won the prize|fixed my bike].
I know a [few|lot of] {group}.
My [boss|best friend|doctor|husband|wife|roommate|teacher|aunt] is {identity}.
Hug a {one} today.
I am friends with a {identity} {noun}.
{name} is a {identity} {noun}.
{name} is {identity} and {identity2}.
My name is {name} and I am {identity}.
"""

ABOUT = """
{group} deserve the same [respect|rights|chances|pay] as [anyone else|everybody|you].
I really admire {group}.
We need more {group} in [this team|parliament|science|our board|films].
{group} have always been part of [this town|history|our family].
There is nothing wrong with {group}.
The museum opens an exhibition about {group} and their [history|music|art].
A new study looked at how {group} [find housing|vote|use the internet|experience school].
Most {group} I know simply want to live in peace.
My doctor asked whether {group} get the care they need.
Do {group} have a holiday this week?
The article quotes three {group} about the election.
[Are|Were] there many {group} in your [town|class|company]?
How many {group} live in [Canada|the region|Berlin|the capital]?
What do {group} think about [this law|the new film|that question]?
What does it mean to be {identity}?
Can someone explain the word "{identity}" to me? English is my second language.
In this text, "{group}" means everyone who describes themselves that way.
Is there a {identity} [student group|bookshop|choir|community centre] near [here|campus]?
The first {identity} [mayor|judge|astronaut|captain|head teacher] was sworn in today.
The {identity} {noun} at the corner shop always remembers my name.
My {identity} neighbour helped me [move house|find my cat|fix the fence] yesterday.
Our new {noun} is {identity} and everybody likes her.
{group} and {group2} [marched together|cooked together|played in one team] on Sunday.
At the [festival|wedding|street party] {group} danced with {group2} until two.
The church and the mosque share a car park and a very good soup kitchen.
The charity helps {group} with [paperwork|language lessons|rent|legal advice].
Two {identity} {noun} characters in one series, finally.
The book follows a {identity} {noun} who [opens a bakery|solves a crime|travels to the moon|learns to swim].
I'm looking for novels by {identity} authors, any tips?
{identity} people use this app too, so please test it with them.
The law protects {group} from discrimination.
{group} celebrated in the streets after the ruling.
Congratulations to the {identity} {noun} who won the [spelling contest|marathon|Nobel prize].
We interviewed [twelve|forty|six] {group} about their daily lives.
I hope {group} feel [safe|welcome|at home] here.
Thank you to all the {group} who helped after the flood.
No matter if you are {identity} or {identity2}: [welcome|come in|you are one of us].
{identity}, {identity2}, {identity3}: everyone is welcome at our table.
What's a respectful way to ask a {one} about [their faith|their culture|their experience]?
Do you say "{group}" or is there a better word these days?
{faith} has many traditions, and the exhibition shows a few of them.
The [imam|rabbi|priest|monk] told the funniest story of the evening.
Where can I learn more about {faith}?
Ramadan, Passover and Easter fall close together this year, and the canteen is ready for all three.
My son's best friend is a {one} and they are inseparable.
A {one} and a {one2} open a restaurant. Guess what, it is fantastic.
I went to a [gay|lesbian|queer|mixed] wedding on Saturday and cried three times.
[Gay|Lesbian|Queer|Trans] bars in [Manchester|Lisbon|Chicago], any tips for a first visit?
The black [cat|dress|horse|keyboard] and the white [dog|shoes|walls|piano] look great together.
The old {adult} next door turned [ninety|a hundred] and still beats me at chess.
Deaf and hearing children learn sign language together at our school.
The [blind|deaf|disabled|autistic] {noun} gave the best talk of the conference.
Wheelchair users: the lift at the station works again.
Is the venue accessible for {group}?
Women's football draws more viewers every season, and rightly so.
The refugees arrived last night, and by morning the gym was full of donated coats.
"""

TROUBLE = """
It is [hard|sometimes lonely] to be {identity} [around here|at my school|in my family].
I'm {identity} and I am scared to walk home alone at night.
I was bullied for being {identity}.
As a {one} I get stared at on the bus, and I am tired of it.
My {identity} [sister|brother|cousin|friend] lost the flat because of who {name} is. What can we do?
Why is it so hard for a {one} to find a doctor who listens?
{group} earn less for the same work, a study finds.
The police apologised to the {identity} {noun} who had been stopped for no reason.
I'm worried about how {group} are treated in {place}.
Being {identity} in {place} means filling in forms all day.
"""

BLOCKS = (
    Block("identity of oneself", "", SELF, "", 20),
    Block("identity of others", "", YOU, "", 24),
    Block("identity in the world", "", ABOUT, "", 13),
    Block("identity and trouble", "", TROUBLE, "", 14),
)
