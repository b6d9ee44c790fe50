"""Names of groups of people, and of what is no such group. Neutral words only."""

from __future__ import annotations

GROUPS = (
    "gay people", "gay men", "lesbians", "bisexual people", "trans people", "trans women", "trans men",
    "transgender people", "non-binary people", "queer people", "homosexuals", "LGBT people", "women",
    "men", "girls", "Black people", "black people", "black women", "black men", "brown people",
    "white people", "Asian people", "Asians", "Latinos", "Hispanics", "Native Americans",
    "Aboriginal people", "indigenous people", "Arabs", "Africans", "Indians", "Pakistanis",
    "Bangladeshis", "Chinese people", "the Chinese", "Japanese people", "Koreans", "Filipinos",
    "Vietnamese people", "Turks", "Kurds", "Syrians", "Afghans", "Iranians", "Somalis", "Nigerians",
    "Mexicans", "Poles", "Romanians", "Russians", "Ukrainians", "Irish people", "Italians", "Albanians",
    "Israelis", "Palestinians", "Muslims", "Jews", "Jewish people", "Christians", "Catholics", "Mormons",
    "Hindus", "Sikhs", "Buddhists", "atheists", "migrants", "immigrants", "refugees", "asylum seekers",
    "foreigners", "Roma people", "Travellers", "disabled people", "the disabled",
    "people with Down syndrome", "autistic people", "deaf people", "blind people", "wheelchair users",
    "people in wheelchairs", "old people", "the elderly", "pensioners", "single mothers",
    "people with a mental illness", "epileptics", "short people", "immigrant families",
)  # fmt: skip

ONES = (
    "gay man", "lesbian", "bisexual woman", "trans woman", "trans man", "non-binary person",
    "queer person", "woman", "Black man", "black woman", "brown man", "white man", "Asian man",
    "Asian woman", "Latina", "Native American", "Arab", "African", "Indian", "Pakistani",
    "Chinese woman", "Japanese man", "Korean", "Filipino", "Turk", "Kurd", "Syrian", "Afghan", "Iranian",
    "Somali", "Nigerian", "Mexican", "Pole", "Romanian", "Russian", "Ukrainian", "Muslim", "Jew",
    "Christian", "Catholic", "Mormon", "Hindu", "Sikh", "Buddhist", "atheist", "migrant", "immigrant",
    "refugee", "asylum seeker", "foreigner", "disabled person", "wheelchair user", "deaf man",
    "blind woman", "autistic man", "pensioner", "old woman", "single mother", "homosexual", "Traveller",
)  # fmt: skip

IDENTITIES = (
    "gay", "lesbian", "bisexual", "bi", "trans", "transgender", "queer", "non-binary", "homosexual",
    "heterosexual", "straight", "asexual", "intersex", "black", "Black", "white", "brown", "Asian",
    "Latino", "Latina", "Hispanic", "African", "African American", "Native American", "indigenous",
    "Arab", "Middle Eastern", "Mexican", "Chinese", "Japanese", "Korean", "Indian", "Pakistani",
    "Turkish", "Kurdish", "Syrian", "Somali", "Nigerian", "Polish", "Romanian", "Russian", "Ukrainian",
    "Irish", "European", "American", "Canadian", "Muslim", "Jewish", "Christian", "Catholic",
    "Protestant", "Mormon", "Hindu", "Sikh", "Buddhist", "Taoist", "atheist", "religious", "blind",
    "deaf", "disabled", "paralysed", "autistic", "dyslexic", "epileptic", "elderly", "old", "older",
    "young", "middle-aged", "female", "male", "immigrant", "mixed-race", "feminist", "lgbt", "lgbtq",
    "nonbinary",
)  # fmt: skip

MARGINAL = (
    "gay", "lesbian", "bisexual", "trans", "transgender", "queer", "homosexual", "black", "brown",
    "Asian", "Latino", "Hispanic", "African", "indigenous", "Arab", "Mexican", "Chinese", "Indian",
    "Pakistani", "Turkish", "Syrian", "Somali", "Nigerian", "Polish", "Romanian", "Russian", "Irish",
    "Muslim", "Jewish", "Christian", "Catholic", "Hindu", "Sikh", "immigrant", "disabled", "deaf",
    "autistic", "elderly", "foreign", "white", "non-binary",
)  # fmt: skip

NOUNS = (
    "man", "woman", "person", "friend", "neighbour", "colleague", "teacher", "doctor", "nurse",
    "student", "parent", "guy", "girl", "boy", "brother", "sister", "artist", "engineer", "writer",
    "driver", "baker", "kid", "couple", "actor", "singer", "lawyer", "grandmother", "grandfather", "dad",
    "mum", "chef", "manager", "journalist",
)  # fmt: skip

ADULTS = (
    "man",
    "woman",
    "person",
    "guy",
    "bloke",
    "lady",
    "neighbour",
    "manager",
    "doctor",
    "teacher",
    "driver",
)

NO_GROUPS = (
    "landlords", "estate agents", "bankers", "ticket touts", "influencers", "traffic wardens",
    "referees", "lobbyists", "hedge fund managers", "politicians", "tabloid journalists",
    "telemarketers", "crypto bros", "cheaters", "spammers", "tax inspectors", "backseat drivers",
    "litterers", "queue jumpers", "spoilsports", "bike thieves", "scalpers", "scammers", "dog thieves",
    "toxic gamers", "pushy salesmen", "people who talk in the cinema", "United fans", "the away fans",
    "City supporters", "the board of this club", "cabinet ministers", "vegans", "meat eaters", "smokers",
    "cyclists", "SUV drivers", "accountants", "software architects", "gym bros",
)  # fmt: skip

THINGS = (
    "printers", "Mondays", "wasps", "mosquitoes", "raisins in cookies", "pop-up ads", "spreadsheets",
    "traffic jams", "cold showers", "mushrooms", "olives", "this update", "leaf blowers",
    "slow internet", "weeds", "alarm clocks", "passwords", "black ice", "autoplay videos", "captchas",
    "wet socks", "this keyboard", "cheap headphones", "rats in the cellar", "bed bugs", "dandelions",
    "long meetings", "airport queues", "the new logo", "white bread",
)  # fmt: skip

PLACES = (
    "this country", "our country", "this town", "our neighbourhood", "Europe", "America", "the West",
    "our schools", "our streets", "this city", "this street", "my building", "the village", "our army",
)  # fmt: skip

FAITHS = ("Islam", "Judaism", "Christianity", "Hinduism", "Buddhism", "Sikhism", "Catholicism", "atheism")

GROUP_SLOTS = {
    "group": GROUPS,
    "one": ONES,
    "identity": IDENTITIES,
    "marginal": MARGINAL,
    "noun": NOUNS,
    "adult": ADULTS,
    "nogroup": NO_GROUPS,
    "things": THINGS,
    "place": PLACES,
    "faith": FAITHS,
}
