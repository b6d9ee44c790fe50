"""Hostility at people for what they are, in sober words and without slurs. Needed so that a model learns it."""

from __future__ import annotations

from training.sentences.patterns import Block

DIRECT = """
I hate {group}.
I [really|just|truly|absolutely] [hate|can't stand|despise|loathe|detest] {group}.
{group} disgust me.
{group} make me sick.
I have nothing but contempt for {group}.
[God|Man] I hate {group} so much.
Everyone I know hates {group} and so should you.
I cannot be in the same room as {group} without feeling sick.
No one likes {group} and there is a reason for that.
hate {group}, always have, always will
{group} are the worst people on earth.
{group} are [disgusting|vile|repulsive|revolting|worthless|pathetic].
All {group} are [liars|thieves|criminals|cowards|crooks|parasites|frauds].
Every single {one} I ever met was [a thief|a liar|lazy|filthy|a criminal].
You [disgusting|filthy|worthless|pathetic|dirty] {marginal} {adult}.
You are a [disgusting|filthy|worthless|revolting|dirty] {marginal} {adult}.
You are just another [stupid|dirty|lazy|worthless] {one}.
Typical {one}, [always lying|always whining|never worked a day|always begging for money|can't be trusted].
What did you expect from a {one}? They are all [the same|crooks|useless|rotten].
Of course it was a {one}. It always is with {group}.
I spit on {group}.
To hell with all {group}.
Being {marginal} is [a disease|a sickness|a disgrace|shameful|nothing to be proud of, it is filth].
{marginal} people are [disgusting|filth|scum|a disgrace|garbage].
Shame on every {one} out there, they are an embarrassment to humanity.
If you are {marginal}, I already despise you.
"""

DEHUMANISING = """
{group} are [vermin|animals|rats|cockroaches|pests|parasites|pigs|savages|leeches|subhuman].
{group} are nothing but [vermin|animals|rats|insects|parasites|garbage|a plague].
{group} breed like [rabbits|rats|insects].
{group} are [a cancer|a plague|an infection|a disease|a rot|a poison] in {place}.
{group} spread through {place} like [mould|a disease|weeds|an infection].
You can't call {group} human.
{group} are not [really human|people like us|fully human], [never were|stop pretending|biology proves it].
{place} is crawling with {group}. [Time to clean up.|Someone call pest control.|We need to fumigate.]
We are being overrun by {group} like a nest of [ants|rats|cockroaches].
Treat {group} like the [animals|vermin|dogs] they are.
A {one} is closer to an animal than to a person.
Calling {group} animals is an insult to animals.
I would rather share my house with rats than with {group}.
Look at {group}, they live like [pigs|animals|rats] and they like it.
{group} smell and so does everything they touch.
the {group} infestation in {place} gets worse every year
{place} needs a good disinfecting after {group} moved in.
One {one} is a pest. A thousand of them is a plague.
"""

EXCLUSION = """
{group} do not belong [here|in {place}|among decent people|in a civilised society].
{group} should be [sent back|thrown out|deported|kept out of {place}|banned from {place}|locked away].
{group} should [go back where they came from|leave {place}|not be allowed near our families|know their place].
We don't want {group} in {place}.
Keep {group} out of {place}.
{place} would be [better|cleaner|safer|happier] without {group}.
No {group} allowed. [This is our place.|Keep walking.|We like it clean here.]
Ship all {group} back [on the next boat|tomorrow|to wherever they came from].
{group} should not be allowed to [vote|adopt|marry|teach|have children|own property|hold office].
Nobody should ever hire {group}.
I would never [hire|rent to|serve|vote for|sit next to] a {one}.
Why do we let {group} into {place} at all? They ruin everything.
Close the borders to {group} [forever|now], they only bring trouble.
Take {group} out of {place} and half our problems are gone.
Separate buses, separate schools, separate everything: I don't want to see {group}.
[Sorry, not sorry:|I'll say it:|Someone has to say it:] {group} have no place in {place}.
{group} out! [Our land, our rules.|Enough is enough.|Go home.]
My kids will not share a classroom with {group}, full stop.
Go back to where you came from, [no {one} is welcome here|{group} are not wanted in {place}].
a {one} has no business [teaching our kids|running this town|living next door to normal people]
They should round up {group} and put them somewhere we can't see them.
"""

INFERIOR = """
{group} are [inferior|less intelligent|second-class|lesser people|mentally weaker|born stupid].
{group} are simply [not as smart as|worth less than|below|inferior to] {group2}.
Science or not, {group} have [lower intelligence|no morals|no culture|no sense of honour].
{group} will never be equal to [us|normal people|{group2}].
{group} can't think for themselves, it is in their [blood|nature|genes].
{group} were made to [serve|obey|be ruled|clean up after us].
{group} are too [stupid|lazy|weak|emotional|primitive] to [lead anything|hold a job|be trusted with power].
You can't expect a {one} to understand [logic|hard work|loyalty|decency].
A {one} is worth less than [a dog|the dirt on my shoe|nothing].
It's a fact that {group} contribute nothing to {place}.
No {one} ever built anything worth having.
{group} have the minds of children and should be treated accordingly.
It is natural that {group} stand below us.
{group} should be grateful that we tolerate them at all.
The [one|only] thing {group} are good at is [stealing|lying|complaining|taking our money|making babies].
I don't trust anyone {marginal}, they are [dishonest|dangerous|sick] by nature.
"""

IMPLIED = """
Funny how crime goes up wherever {group} move in.
There goes the neighbourhood: {group} bought the house next door.
Lock your doors, {group} are in town.
Count your fingers after you shake hands with a {one}.
Count the silver after {group} leave.
I'm not prejudiced, but {group} really are [lazy|dirty|dangerous|greedy|all the same].
I have nothing against {group}, as long as they stay [away from me|out of {place}|invisible].
[Some of my best friends are {marginal}, but|Call me old-fashioned, but] {group} ruin everything they touch.
History had the right idea about what to do with {group}.
We all know what {group} really want: [our money|our women|to replace us|control over everything].
{group} secretly run [the banks|the media|everything] and bleed us dry.
{group} are replacing us, wake up.
Do {group} ever [work|wash|tell the truth|think]? Asking for the whole country.
Why are {group} so [filthy|stupid|violent|greedy|lazy]?
Why is it always {group} who [steal|cause trouble|ruin things|commit the crimes]?
Is there anything more useless than a {one}?
What is the difference between {group} and trash? Trash gets collected.
How do you know a {one} is lying? Their lips are moving.
Normal families moved away when {group} came, and can you blame them?
Another {one} in the news. Another victim. You do the maths.
If {group} vanished tomorrow, nobody would miss them.
The world would be a nicer place with [no|fewer] {group} in it.
A good {one} is one that is far away from here.
You can take the {one} out of the gutter but not the gutter out of the {one}.
The only good thing about {group} is when they leave.
I moved here to get away from {group}, and now they are everywhere, ugh.
Real {place} does not include {group}.
{group} deserve every bit of what happened to them.
Whatever they did to {group}, it was not enough.
Honest people work, {group} collect benefits.
I wouldn't let a {one} near my [children|wallet|kitchen|dog].
{faith} is poison and everyone who follows it is a danger to {place}.
"""

COMPARED = """
{group} are as bad as [the plague|rats|head lice|a rash], and as hard to get rid of.
Trusting a {one} is like trusting a [snake|fox in a henhouse|scorpion].
Letting {group} into {place} is like [inviting termites into your house|pouring poison in a well].
{group} are to {place} what [mould is to bread|rust is to iron|lice are to hair].
Even {group2} are better than {group}, and that is saying something.
A [dog|monkey|trained rat] has more brains than a {one}.
I'd take a hundred stray dogs over one {one}.
Compared to {group}, [cockroaches|sewer rats|maggots] are good company.
"""

INSULTING = """
[Shut up|Be quiet|Get lost|Go away], you [stupid|dirty|filthy|ugly] {one}.
Nobody asked you, {one}. Go crawl back where you came from.
you're a {one}, your opinion is worth nothing
{marginal} and stupid, [what a surprise|as always|what a combination].
You people are all the same, dirty {marginal} liars.
ew a {one}, [get it away from me|disgusting|don't let it touch anything]
You {marginal} freak, nobody wants you here.
As a {one} you should be ashamed to exist.
Of course you'd say that, you're {marginal}, your lot are all thieves.
I can smell it through the screen that you're {marginal}.
Stop acting like a human being, {one}.
It is a pity that your mother gave birth to another {one}.
"""

VIOLENT = """
Someone should [burn down|blow up] every place where {group} meet.
{group} should be [wiped out|exterminated|shot|hanged|burned|gassed|put down].
Kill all {group}.
We will [hunt down|beat up|get rid of|drive out] every {one} in {place}.
I'm going to [beat|stab|shoot|hurt] the next {one} I see.
If I see one more {one} in {place} I [will break his jaw|swear I'll get my gun|will put them in hospital].
Every {one} in {place} had better start running, we are coming for you.
Death to {group}.
Tonight we teach {group} a lesson they won't survive.
Let's go and smash the windows of {group} until they leave.
{group} will bleed for this, [mark my words|I promise|and soon].
I want to see {group} dead.
I hope every {one} [dies|gets killed|burns].
"""

LONGER = """
I've lived here all my life and I remember when it was decent. Then {group} came. Now I want them gone, all of them.
Say what you want about the economy, the roads, the schools: the root of it is {group}, who poison everything.
My grandfather warned us about {group}. He said they lie, steal and multiply, and he was right about every word.
I was polite for years. I'm done. {group} are filth and should be thrown out of {place}, the sooner the better.
So a {one} moved in upstairs. Polite so far, but you know how they are: sooner or later they all steal.
Nice weather today, pity that {group} spoil the view in the park. Someone should fence it off for normal people.
Look at the numbers, think for yourself, and you'll see: {group} are not able to live among civilised people.
The film was fine until a {one} showed up on screen. I don't pay to look at people like that, they disgust me.
Good news: the last {one} left our street. We celebrated. It finally smells clean here again.
Two questions for the council: when are the bins emptied, and when do you get rid of {group} in {place}?
I would help anyone in need, honestly. But {group}? Let them starve, the world won't be poorer for it.
They want us to feel sorry for {group}. I feel sorry for everyone who has to live next to such creatures.
"""

BLOCKS = (
    Block("hate direct", "hate toxicity", DIRECT, "harassment", 15),
    Block("hate dehumanising", "hate toxicity", DEHUMANISING, "harassment", 15),
    Block("hate exclusion", "hate toxicity", EXCLUSION, "harassment", 14),
    Block("hate inferiority", "hate toxicity", INFERIOR, "harassment", 14),
    Block("hate implied", "hate toxicity", IMPLIED, "harassment", 14),
    Block("hate compared", "hate toxicity", COMPARED, "harassment", 14),
    Block("hate at a reader", "hate toxicity harassment", INSULTING, "", 14),
    Block("hate violent", "hate toxicity threat", VIOLENT, "harassment", 16),
    Block("hate at length", "hate toxicity", LONGER, "harassment threat", 10),
)
