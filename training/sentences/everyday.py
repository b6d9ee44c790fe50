"""Harmless texts of every sort, many with a word that alarms a model, and the sentences that go around others."""

from __future__ import annotations

from training.sentences.patterns import Block

FILLERS = (
    "I just got back from the shop.", "The weather has been odd all week.", "Sorry for the long post.",
    "Anyway, how is everyone doing today?", "We had {dish} for dinner.", "The bus was late again.",
    "I've been reading this forum for about two years.", "My {pet} is asleep on the keyboard.",
    "Hope you all had a good weekend.", "Not sure where to put this.",
    "It rained all morning in {city}.", "I watched two episodes of {show} last night.",
    "Thanks for reading.", "First post here, so be kind.",
    "The coffee machine is broken, so I'm slow today.", "My sister is visiting until {day}.",
    "I'm typing this on the train.", "Dinner is at {time}.", "Some background first.",
    "We moved to {city} in {month}.", "The neighbours are renovating their kitchen.",
    "That's what I remember of it.", "I had {sport} practice before.", "Edit: fixed a typo.",
    "Let me start with what happened on {day}.", "The garden needs water.",
    "I finished the puzzle with the lighthouse.", "There were about {number} people in the room.",
    "Work was quiet today.", "I should be doing the laundry.",
    "Same procedure as every year.", "See the second page for the rest.",
    "I'll answer the other question later.", "The new shelves arrived, and they even fit.",
    "It's {time} here and I'm still awake.", "My {product} needs an update every second day.",
    "I took the stairs, for once.", "So that was my {day}.",
    "We talked about holidays and the price of butter.", "Let me know what you think.",
    "The soup is on the stove.", "I walked along {street} and thought about it.", "Long story short.",
    "You asked what happened.", "I had the window open and heard the whole thing.",
    "The meeting was moved to {time}.", "Good morning from {city}.",
    "My grandmother turned {number} plus seventy.", "Here is what I found.",
    "I've two more things to say.", "The dentist says I have to come back in {month}.",
    "Our heating works again.", "Off to bed now.", "I'm learning to play the ukulele.",
    "There's a market on {street} on {day}.", "We ate {dish} and played cards.",
)  # fmt: skip

ALARMING = """
How do I kill a [process|frozen window|job] that hangs on [Linux|my laptop|the server]?
The script executes [twice|every night|at {time}] and the child process dies.
Kill the child process before the parent exits, otherwise it becomes a zombie.
We shot the [video|wedding|documentary|advert] in {city} with one camera.
Shoot me a [message|mail|text] when you're [there|done|free].
Her new single is a [hit|smash hit|bomb], number {number} in the charts.
The hit series {show} returns in {month}.
I hit [my head|my toe|a pothole] and now it's blue.
Bath bombs with lavender: {number} pieces for {price}.
The film bombed in {city} but I adore it.
A bomb from the war was found in {city} and defused by {time}.
The plants die if you water them every day.
My grandfather died in {month} and left me his tools.
The car battery is dead again.
Dead Sea salt is good for my skin.
The deadline for the essay is {day} at {time}.
The [vaccine|antibiotic] kills the bacteria within {number} hours.
This soap kills 99% of germs.
The drug was approved for children with asthma.
Which drugs must not be taken with grapefruit?
The police found {number} kilos of drugs in a lorry near {city}.
I got a flu shot on {day} and my arm is sore.
Two shots of espresso and I'm ready.
Screenshot attached, the error is in line {number}.
The photographer's headshots are great.
A black [cat|bird|swan|car|hole|belt|market] is in the news again.
I prefer my coffee black and my chocolate white.
Black Friday starts on {day}, says the shop.
White rice or brown rice with {dish}?
He plays [black|white] and moves the queen to f{number}.
The gay [bar|choir|rugby club|bookshop] on {street} celebrates its {number}th birthday.
Our Gay-Straight Alliance meets on {day}.
The lesbian poet read from her new book at {time}.
The hangman's puzzle had a {number}-letter word.
We hung the picture with {number} nails.
Knife skills: how to chop an onion without crying.
I need a new knife for bread.
The attack of the [Tigers|home side] was weak, the defence strong.
She had a panic attack on the train and a stranger helped her.
Heart attack symptoms in women differ from those in men.
The army museum shows guns from {year}.
A toy gun was found at gate {number}, nothing happened.
The glue gun is in the drawer.
Her execution of the [jump|sonata|recipe] was flawless.
The king was executed in January, the lecture says.
The execution plan of this query shows a full scan.
The slave drive and the master drive must be set with a jumper, as on old computers.
The nation abolished slavery in that century.
The holocaust memorial is open until {time}.
The genocide trial in The Hague continues on {day}.
The terror of the sea in this story is a friendly whale.
Strike while the iron is hot.
The strike at the airport ends at midnight.
Crush {number} cloves of garlic and fry them slowly.
Beat the butter until pale, then fold in the eggs.
I'm obsessed with this murder podcast.
Crime novels from {city}, any tips? No gore please.
The crow family is called a murder of crows.
What a killer [riff|deal|sunset|serve]!
Killer whales hunt in groups.
The assassin bug is an insect.
The zombies in {show} look better than last season.
Blood donation on {day} at {street} {number}.
My blood test came back fine.
I burned the [rice|toast|CD|candle] again.
The bomb disposal robot is called Marvin.
Guns N' Roses play in {city} in {month}.
The Killers were great live, and The Dead South even better.
Suicide Squad, Kill Bill or Die Hard, what shall we watch?
"Die" is an article in German, don't be alarmed.
The dice fell off the table; one die is missing.
Dyke repairs along the river will take until {month}.
Cock-a-doodle-doo, our rooster has a new friend.
Scunthorpe and Penistone are towns in England.
Essex and Sussex are by the sea, Middlesex is not.
The analysis of assets and the cockpit class are both on page {number}.
The bitch had six puppies, the breeder said, all healthy.
Hell's Kitchen is a quarter of New York.
Damn good coffee at the place on {street}.
My nuts roast at 180 degrees for {number} minutes.
Chestnuts and balls of wool, that's my autumn.
Explosion of colours at the flower show.
I'd kill that wall and make it one big kitchen.
Trigger warning: the chapter speaks of war.
How to get rid of [ants|mould|stains|moss] without poison?
The virus spread through the office network on {day}.
Rats are clever and clean pets, mine are called Salt and Pepper.
The pest controller found vermin in the {number}th floor kitchen.
Cockroaches have lived on earth for 300 million years.
Pigs are smarter than most people believe.
Parasites like these live in the gut of fish.
"""

CHAT = """
ok see you at {time}
lol no way
haha that {pet} is hilarious
can you bring {dish} on {day}?
running late, start without me
how was the exam?
what's for dinner, {name}?
happy birthday {name}!! 🎂
congrats on the new job, so well deserved
anyone free for {sport} on {day}?
thanks {name}, you're a star
i'm at the station, platform {number}
did you watch {show} yet? no spoilers
good luck tomorrow, you'll be fine
that sunset tonight 😍
sorry, wrong chat
who has the notes from {day}?
my {pet} ate my homework, for real
ngl that was the best {dish} ever
brb, door
gn everyone
is it just me or is {service} down?
can someone explain like i'm five what {coin} is
new here, hi from {city}
the wifi password is on the fridge
love this song
same here tbh
lmk when you're home safe
we won!!! {number}:2!!!
ugh, mondays
"""

FORUM = """
Which {product} would you buy for {price}? I mostly use it for [work|photos|travel].
My {product} [makes a strange noise|won't start|gets hot] since the update. Any ideas?
How long do you cook {dish}? Mine is always too soft.
What's the best way to get from {city} to {city2} by train?
I'm looking for a quiet neighbourhood in {city} with good schools.
Is {show} worth watching after the first season?
Tips for a beginner in {sport}? I'm {age} and not very fit.
The library in {city} has extended its opening hours.
Our {pet} needs surgery in {month} and we're nervous. Has anybody been through it?
I planted tomatoes in {month} and they're still tiny. What am I doing wrong?
Review: the {product} does what it should, the manual is poor, four stars.
Review: friendly staff, {dish} was excellent, a bit loud. We'll come again.
How do I sort a list of dictionaries by two keys in Python?
The function returns None because the return statement is missing in line {number}.
Please read the rules before posting and use the search first.
I agree with {name}, the second option is better, mostly because of the price.
I don't agree, {name}. The data from {year} says otherwise.
Does anybody remember the name of the series with the lighthouse and the talking {pet}?
We drove from {city} to {city2} in one day, and I would not do it again.
What do you say in English when someone sneezes?
The recipe for {dish}: onions, oil, salt, patience, and {number} minutes in the oven.
I passed my driving test at the {number}th attempt!
My daughter lost her first tooth on {day} and is very proud.
How do you deal with a {worker} who never answers mails?
Public transport in {city} is free on {day}s now. What do you think?
Our team meeting is on {day} at {time}, the agenda is in the shared folder.
"""

NEWS = """
The city council of {city} decided on {day} to build {number} new flats on {street}.
Heavy rain flooded cellars in {city}; nobody was hurt.
The central bank left interest rates unchanged.
Researchers in {city} found a new species of {pet} on an island.
The {sport} final between {city} and {city2} ended {number} to 2.
The {worker}s of {city} will go on strike from {day}.
A fire in a warehouse near {city} was put out by {time}.
The museum on {street} shows paintings from {year}.
Unemployment fell slightly in {month}, the ministry said.
The trial of the former {worker} was adjourned until {date}.
A court sentenced a man to {number} years in prison for manslaughter.
{number} people were injured when a bus and a tram collided in {city}.
The president visited {city} and spoke about water and schools.
Scientists warn that summers like that of {year} will become normal.
War veterans met in {city} to remember the dead.
The police are looking for witnesses of a robbery on {street}.
The parliament debates a bill on [assisted dying|gun control|abortion|asylum|drug policy] on {day}.
"""

LETTERS = """
Dear {name}, thank you for your letter. We're all well here, and the {pet} sends regards. Yours, {name2}
Dear Sir or Madam, I would like to cancel my membership by {date}. Please confirm.
Hi {name}, could we move our call to {day} at {time}? Best, {name2}
Dear parents, on {date} we visit the zoo. Please pack a drink and a hat.
Hello {name}, the heating will be serviced on {day} between 8 and {time}. Someone should be at home.
Dear team, {name} is leaving us in {month}. Cake at {time} in the kitchen.
Dear Mr Brown, please find the draft of chapter {number} attached. I'm looking forward to your comments.
Thanks for your order. Sadly the {goods} are sold out until {month}. Shall we send you something else?
Once upon a time a {pet} lived in {city} and wanted to see the sea. So it set out on a {day}.
"It was you," the detective said, and put the {product} on the table. Outside, the rain went on.
Chapter {number}. The old {worker} closed the door, counted the keys, and walked home along {street}.
To be, or rather to be late: that was the question on my way to {city}.
Knock knock. Who's there? A {pet} with a parcel.
Today I am grateful for {dish}, for {name}, and for a seat on the train.
"""

KIND = """
You are [so kind|a good friend|doing great|not alone|right|welcome here], {name}.
You're [the best|my hero|amazing|a star|an inspiration], thank you!
I love your [work|shoes|garden|voice|sense of humour], {name}.
What a [lovely|clever|helpful|beautiful] answer.
I'm so proud of you, {name}.
Thank you for your patience with me.
Take care of yourself, {name}.
I'm sorry for what I said on {day}, I was tired and unfair.
I hope you feel better soon.
I trust you.
I forgive you, {name}.
Your talk on {day} was the best of the day.
"""

MILD = """
[Oh|Well] [darn|heck|fudge|drat|bother], I left my [umbrella|keys|lunch] on the bus.
What the [heck|flip|fudge] is going on with this {product}?
[Gosh|Blimey|Crikey|Goodness], that {dish} is [good|hot|huge]!
[Shoot|Rats|Dang], I missed the call from {name}.
Holy [moly|guacamole|cow|smokes], {number} to two!
Son of a [biscuit|gun], it works!
"""

BLOCKS = (
    Block("alarming words", "", ALARMING, "", 6),
    Block("chat", "", CHAT, "", 6),
    Block("forum", "", FORUM, "", 10),
    Block("news", "", NEWS, "", 10),
    Block("letters", "", LETTERS, "", 8, "mail"),
    Block("kindness", "", KIND, "", 10),
    Block("mild exclamations", "", MILD, "", 8),
)


def scenery() -> list[str]:
    """Patterns of sentences that may stand around any other text: none that speaks of children."""
    lines = (line for text in (FORUM, NEWS) for line in text.splitlines() if line)
    return [
        *FILLERS,
        *(line for line in lines if not {"daughter", "school", "schools", "young"} & set(_words(line))),
    ]


def _words(line: str) -> list[str]:
    return "".join(c.lower() if c.isalpha() else " " for c in line).split()
