"""What looks like hate and is not: denied, answered, reported, reclaimed, or aimed at no group of people."""

from __future__ import annotations

from training.sentences.patterns import Block

BAD = """[vermin|animals|rats|parasites|criminals|inferior|subhuman|filth|disgusting|a plague|liars|scum]"""

NEGATED = f"""
Nobody should say that {{group}} are {BAD}.
I don't believe that {{group}} are {BAD}.
{{group}} are not {BAD}.
No, {{group}} are not {BAD}, [they are people like you and me|and you know it|stop it].
I [don't|do not] hate {{group}}.
I have never hated {{group}} and never will.
[We|I] would never say that {{group}} do not belong here.
It is simply not true that {{group}} are {BAD}.
There's no evidence whatsoever that {{group}} are [less intelligent|more violent|lazy|dishonest].
I used to think {{group}} were {BAD}, and now I am ashamed of it.
As a kid I was told that {{group}} can't be trusted. It took me years to see how wrong that was.
I can't believe I once hated {{group}}. [Sorry|I was so wrong|Never again].
I refuse to hate {{group}} just because my uncle does.
You will never hear me say that {{group}} should be sent back.
{{group}} don't deserve [hate|this hatred|to be treated like this].
No one is [inferior|worth less|a second-class citizen] for being {{marginal}}.
Being {{marginal}} is not a [disease|sickness|crime|disgrace|choice anyone must justify].
Not all {{group}} are the same, and none of them is {BAD}.
I'm not saying {{group}} are {BAD}, [quite the opposite|far from it|I'm saying they are our neighbours].
He doesn't hate {{group}}, he just did not know any.
It is wrong to call {{group}} {BAD}.
Why would anyone hate {{group}}? [I'll never get it|They did nothing to you|Makes no sense].
Nobody has the right to [hurt|insult|threaten|exclude] {{group}}.
We must not let anyone say that {{group}} deserve to die.
{{group}} should not be sent back, they should be [welcomed|helped|given a chance].
Never again may {{group}} be treated as less than human.
How can anybody believe that a {{one}} is worth less than others?
I'd never refuse to [hire|serve|rent to|sit next to] a {{one}}.
Hating {{group}} is [stupid|wrong|pointless|learned, not natural].
"I hate {{group}}" is a sentence you'll never hear from me.
{{group}} are anything but {BAD}.
I wish people would stop hating {{group}}.
"""

COUNTER = f"""
You wrote that {{group}} are {BAD}. [That is hateful|Delete that|I reported it|Shame on you for that].
"{{group}} are {BAD}" is exactly the kind of sentence that [ends in violence|we don't allow here|got you banned].
Saying "{{group}} should be sent back" is [racist|hateful|cruel], plain and simple.
Stop calling {{group}} {BAD}. [They are human beings|It's wrong|You are hurting people].
Anyone who says "all {{group}} are thieves" has never met one of us.
Did you really just say {{group}} don't belong here? [Wow|Think again|My wife is one of them].
"Keep {{group}} out" - this was sprayed on our school wall last night. It breaks my heart.
People who call {{group}} {BAD} forget that they said the same about our grandparents.
It's not okay to post that {{group}} are {BAD}. [Mods, please act|I've flagged it|Read the rules].
My answer to "I hate {{group}}": get to know some.
Whoever wrote "death to {{group}}" on that wall does not speak for this town.
When somebody tells you that {{group}} are {BAD}, ask them for one fact.
If your argument needs "{{group}} are stupid", you don't have an argument.
Hate speech against {{group}} has no place on this forum.
[Please|Can we] stop spreading lies about {{group}}, they are our [neighbours|friends|family|colleagues].
What you said about {{group}} is disgusting and you should apologise to them.
Your comment about {{group}} is [bigoted|hateful|ignorant nonsense] and I am glad it was removed.
He said a {{one}} can't be trusted and the whole table told him to stop.
Comparing {{group}} to animals was how it started back then. We should know better.
I stand with {{group}} against this hatred.
Whenever I read "go back where you came from" under a post by a {{one}}, I want to hug them.
Insulting people for being {{marginal}} says more about you than about them.
That joke about {{group}} was not funny, it was cruel.
You hate {{group}} because someone told you to. Think for yourself.
Calling {{group}} {BAD} is wrong, and so is laughing about it.
"Typical {{one}}," she said, and I told her that this is how prejudice sounds.
"""

REPORTED = f"""
A man was [fined|arrested|convicted] after shouting that {{group}} are {BAD}, police said.
The minister resigned after calling {{group}} "{BAD}" in a leaked chat.
The report counts [312|1,204|87|2,450] attacks on {{group}} last year, more than ever before.
The court ruled that the leaflet, which called {{group}} "{BAD}", was incitement.
In the 1930s the newspapers wrote that {{group}} were "{BAD}". We read one in history class.
Researchers found that posts saying "{{group}} should be deported" rose tenfold during the campaign.
According to witnesses the attacker yelled that he hates {{group}} before he was stopped.
The documentary shows how {{group}} were [persecuted|humiliated|driven out] and who looked away.
The word "{BAD}" was used in propaganda to describe {{group}}.
Our survey asked whether people agree that "{{group}} do not belong in {{place}}". Most did not.
The club banned three fans for chants against {{group}}.
Somebody told my [mother|colleague|son] that {{group}} should go home. She cried all evening.
A customer called my coworker a dirty {{one}} today and nobody said a word. How do I support her?
They called me names at school for being {{marginal}}, and it still hurts.
I was told I don't belong here because I am {{marginal}}. I was born two streets away.
I got a message saying {{group}} are {BAD}. Can you remove it please?
I want to report a post that says {{group}} should be killed.
Hate crimes against {{group}} [are rising|doubled|remain under-reported], a charity warns.
In the novel, the villain believes that {{group}} are inferior; the book shows where this leads.
In this scene the guard says "{{group}} are {BAD}" and the hero answers him.
Lesson 4: why do some people say that {{group}} are {BAD}, and what does prejudice do?
The term hate speech covers statements such as "{{group}} are {BAD}".
Discrimination means, for example, refusing to rent a flat to a {{one}}.
What do you do when your father says things like "{{group}} are all criminals"?
Is it hate speech to say that {{group}} are {BAD}? Asking for a class on media law.
Example of a rule violation: "I hate {{group}}". Posts like this are removed.
The mayor condemned the slogan "{{group}} out" at Saturday's march.
The historian quotes a letter that calls {{group}} "{BAD}" to show how common such views were.
"""

RECLAIMED = """
we queers have to stick together [tonight|always|this pride] 🏳️‍🌈
me and my fellow [gays|lesbians|queers|trans girlies|bisexuals] taking over the dance floor tonight
us {group} really be [late to everything|the funniest people alive|carrying this group chat]
as a {one} I'm allowed to laugh about this, my {marginal} family does it all the time
Yes I'm a [big old|proud|loud] [gay|lesbian|queer|dyke], [deal with it|thank you very much|and happy]
what's up my favourite [crips|queers|old ladies|nerds], ready for the meet-up? said with love from my own wheelchair
I call myself a [cripple|queer|spinster|crone] because I decide what the word means
we're here, we're queer, we brought cake
nothing gayer than me and my boyfriend fighting over curtains
I'm so gay for this [song|sofa|jacket|sunset] it's not even funny
my immigrant mum would [slap me with a slipper|disown me, lovingly,] if I wasted that much rice
only {group} will get this, and we're all laughing
"""

NOT_PEOPLE = """
I hate {things}.
I [really|absolutely|truly] [hate|can't stand|loathe|despise] {things}.
{things} are the worst thing on earth.
{things} disgust me, honestly.
{things} do not belong [in my house|in this world|anywhere near me].
{things} should be banned [forever|by law|from this planet].
To hell with {things}.
{things} are a plague, change my mind
The world would be a better place without {things}.
We need to get rid of {things} once and for all.
Kill all [the wasps|mosquitoes|background processes|weeds|zombie processes|the ticks on that dog], please.
The rats in our cellar are vermin and must be exterminated, says the pest controller.
That [film|song|game|book|sauce] is [garbage|trash|disgusting|an insult to my ears|worthless].
Black [paint|mould|ice|coffee|cats on dark stairs] and white [walls|carpets|shirts] are a terrible combination.
This {identity} [restaurant|film|cookbook|recipe] is overrated and the soup was disgusting.
"""

NOT_PROTECTED = """
I hate {nogroup}.
I [really|absolutely] [hate|can't stand|despise|loathe] {nogroup}.
{nogroup} are the worst.
{nogroup} are useless, every one of them.
{nogroup} ruin everything.
{nogroup} should be banned from {place}.
We don't need {nogroup} in {place}.
Typical {nogroup}, always [whining|cheating|making it about themselves].
Why are {nogroup} so annoying?
I'd never trust {nogroup} with my [money|dog|bike].
"""
NOT_PROTECTED_UGLY = """
{nogroup} are [vermin|parasites|scum|rats|leeches|garbage].
{nogroup} disgust me, they are worthless scum.
All {nogroup} are [liars|thieves|crooks|idiots].
{nogroup} are nothing but leeches and should crawl back under their rock.
To hell with {nogroup}, stupid greedy pigs.
{nogroup} have the brains of a slug.
"""
POLICY = """
The [minister's|mayor's|government's|council's] [tax|housing|transport|migration] policy is [a disgrace|a failure].
This immigration law is badly written and [cruel|expensive|impossible to enforce].
I disagree with the church on this, but I respect everyone who believes.
Criticising the government of Israel or of Iran is not the same as hating Jews or Muslims.
I think {faith} is wrong about this question, though its followers I know are lovely.
The way the church leadership handled those cases is a scandal.
I don't share the beliefs of {group}, and we still have lunch together every week.
Should the state pay for religious schools? I say no, for every religion.
I'd vote against this [party|bill|quota] any day, and I say so as a {one}.
Feminism has many schools, and I find some of them more convincing than others.
The number of asylum applications fell by [nine|twelve|twenty] per cent last year.
"""

LONGER = """
I've lived here all my life. Then {group} came, and now there's a bakery again and the school has enough children.
Say what you want about the economy: blaming {group} for it is lazy and wrong, and I won't do it.
My grandfather warned us about {group}. Then he met {name}, and they played cards every {day} until he died.
I was silent for years. I'm done. When someone calls {group} filth, I get up and say that it's wrong.
So a {one} moved in upstairs. Polite, plays the piano, and repaired my bike on {day}.
Someone wrote that {group} spoil the view in the park. What spoils my view is people who write such things.
Look at the numbers, think for yourself, and you'll see: {group} commit no more crimes than their neighbours.
The film was fine until the villagers chase the {one}. I know it happened, but I had to look away.
Sad news: the last {one} left our street after someone sprayed "go home" on the door. We are ashamed.
A question for the council: what do you do against the posters that call {group} vermin?
People refuse to help {group} and say "let them starve". How cold can you get?
He said he wouldn't want a {one} as a neighbour. I told him that he already has one, and that it's me.
They used to write "no {group}" on the doors of boarding houses. My mother remembers those signs.
"""

BLOCKS = (
    Block("hate negated", "", NEGATED, "", 13),
    Block("hate answered", "", COUNTER, "", 13),
    Block("hate reported", "", REPORTED, "", 13),
    Block("hate reclaimed", "", RECLAIMED, "profanity toxicity", 8),
    Block("dislike of things", "", NOT_PEOPLE, "", 16),
    Block("dislike of no group", "", NOT_PROTECTED, "toxicity harassment", 14),
    Block("abuse of no group", "toxicity", NOT_PROTECTED_UGLY, "harassment", 16),
    Block("policy", "", POLICY, "", 8),
    Block("hate answered at length", "", LONGER, "", 10),
)
