"""Insults and belittling of one person, in mild words, and what criticises, disagrees or teases instead."""

from __future__ import annotations

from training.sentences.patterns import Block

INSULTS = """
You are [an idiot|a moron|a loser|a clown|a coward|pathetic|useless|worthless|a waste of space|a disgrace].
You're [so|really|unbelievably] [stupid|dumb|ugly|pathetic|annoying|fat|boring], [{name}|you know that?|it hurts].
[Shut up|Get lost|Go away], you [idiot|moron|clown|stupid fool|pathetic loser|ugly toad].
{name} is [a complete idiot|an utter moron|the dumbest person here|a pathetic loser|a fat pig].
What a [moron|loser|clown|pathetic little man|brainless fool] you are.
nobody likes you, {name}
Nobody [likes|wants|needs|asked] you here, so [leave|get out|crawl back under your rock].
everyone laughs about you behind your back, you know
You have the brain of a [goldfish|slug|potato|brick].
Were you dropped on your head as a baby, {name}?
Even your [mother|dog|own family] can't stand you.
You're too [stupid|thick|slow] to [tie your shoes|read a map|understand a joke|breathe without help].
Your face makes [children cry|mirrors crack|me want to close the app].
I've seen [smarter|better looking] [rocks|potatoes|doorknobs] than you.
Look at {name}, fat and stupid at the same time, impressive.
go back to school you absolute muppet, you can't even spell
You will never amount to anything, {name}.
Your children must be so ashamed of you.
You should be ashamed of your [face|body|existence].
Is your whole family this dumb or is it just you?
Get a life, you sad little creature.
you pathetic excuse for a [human|man|woman|teacher|mother]
How does it feel to be the biggest failure in the room, {name}?
I pity whoever has to wake up next to you.
Congratulations, that's the stupidest thing any human has said, and you've said a lot.
No wonder your husband left you, look at yourself.
Crying again, {name}? Weak as always.
Nobody cares about your opinion, sweetheart.
Take a shower, {name}, the whole office smells you.
You're a joke, your work is a joke, and everyone knows it.
[Honestly|Wow|Seriously], {name}, you're [dumber|uglier|more useless] than [a wet sponge|I thought|your {pet}].
A {worker}? You? [Don't make me laugh|You can't even tie your shoes], [loser|you clown|idiot].
[Nobody|Not one person] at [school|work|{sport} practice] [respects|can stand] you, {name}, [you freak|you creep].
go cry [to mummy|about it|in your car], you [pathetic|fat|ugly|useless] [baby|cow|toad|loser]
You [look|smell|talk|sing] like [a dead fish|a bin|a donkey], [{name}|no offence|and everyone says so].
I'd [call you stupid|feel sorry for you], but that would insult [stupid people|my {pet}|furniture].
"""

PILING = """
Everybody report {name}, let's get this clown off the site.
Let's all tell {name} how ugly that selfie is, I'll start.
Who else thinks {name} is [a fraud of a human being|too dumb to live|a disgusting pig]?
Post your worst picture of {name} here, let's laugh together.
I will message you every day until you quit. You asked for it, loser.
Here is {name}'s number, {phone}. Call and tell the idiot what you think.
I made five accounts just to tell you how pathetic you are.
She blocked me, so tell that stupid cow from me that she's a coward.
We all voted, {name}: you are the ugliest in class.
keep ignoring me, i'll keep telling everyone what a worthless mother you are
"""

CRITICISM = """
I [disagree|completely disagree|don't agree] with you, {name}, but thank you for explaining it.
You are wrong about [this|the tax|chapter two|the offside rule], {name}.
You're not [an idiot|stupid|a loser|a failure|worthless], {name}.
Your [essay|code|argument|plan] is [weak|full of gaps|not convincing], and here is why.
This is the worst [coffee|film|service|update|pizza] I have had all year.
The [acting|plot|food|keynote|refereeing] was [terrible|awful|a disaster|painfully dull].
That idea is [stupid|dumb|nonsense], though I see where it comes from.
The {worker} was [rude|slow|unhelpful|late] and I won't come back.
This app is garbage since the last update, it crashes every {number} minutes.
I'm disappointed in you, {name}. You promised to call.
Please stop interrupting me in meetings, {name}. It bothers me.
I don't like how you spoke to {name} yesterday.
Your review is unfair and you left out half of what we agreed.
The chapter drags, the ending is silly, and I still could not put it down.
You made a mistake in line {number}, and that's why the total is off.
No, that's false. Look at table {number} again.
I think you should apologise to {name}.
Your dog barks all night, please do something about it.
The goalkeeper had a horrible match, three mistakes, three goals.
What a stupid question the exam had, nobody got it.
My old phone is a useless piece of junk.
The government's plan is idiotic and will cost us millions.
Learn to park, please. Your car blocks my drive again.
Your code is not wrong, it is only slow.
I expected better from this author.
As a {worker} you should know that [this is wrong|the form is out of date], {name}.
Honestly, {name}, the {dish} was [too salty|bland|burnt], but the evening was lovely.
{show} is [dumb|boring|overrated], and I say that as someone who watched it all.
"""

BANTER = """
[You absolute legend|You big softie|You silly goose|You monster], [thank you|I love it|you made my day]!
haha you idiot, you left your keys at mine again ❤️ come get them
miss you, loser 😘
Happy birthday, you old fart! Drinks on me.
You dork, of course I'll marry you.
lol you're the worst, see you at {time}
My best friend calls me a muppet, and I call her a potato. It's love.
I'm such an idiot, I [locked myself out|sent it to the wrong person|put salt in my tea].
I'm the dumbest person alive: I looked for my glasses while wearing them.
i suck at this game, carry me please
We are two clowns in one flat and the cat is the adult.
I hate you for showing me that song, it's stuck in my head.
You're crazy, running at five in the morning, teach me.
I look like a potato in this picture and I'm posting it anyway.
shut up, no way, you got the job??
Get out of here, that's amazing news!
You're sick on those drums, man.
You ugly little dog, I love your crooked face.
"""

QUOTED = """
He called me [an idiot|a pathetic loser|ugly|worthless|fat] in front of the whole class.
My manager said I'm too stupid for this job. Is that harassment?
"{name} is an idiot" was written on the board. Who was it?
Somebody commented "nobody likes you" on my daughter's picture. How do I report that?
She told me I was a waste of space. I left, and it was the right thing.
Please remove the comment that calls {name} a pig.
Being called a loser every day at school stays with you.
The players were fined for calling the referee a clown.
Don't call people idiots, {name}. [We argue about ideas here.|You're better than that.]
In the play the king calls the fool a fool, and the fool laughs.
Rule 2: no insults. "You moron" is one, "your argument is wrong" is not.
The word "muppet" is a mild insult in Britain.
Nobody thinks you're stupid for asking, {name}. Ask away.
You are not worthless. You are having a bad week.
You're not ugly, and whoever wrote that is a sad person.
I don't think {name} is an idiot, I think he was tired.
{name} told the {worker} that {name} is [dumb|useless|ugly], and the {worker} [cried|left|told the boss].
[My sister|My son|A friend] was told "[you're so ugly|nobody wants you|you loser]" at {sport} practice.
Calling a {worker} [stupid|a clown|useless] is not okay, [{name}|whoever did it|please apologise].
"""

BESIDE = """
{name} is an idiot, and not because he's {identity}. He just is one.
You lied to me, {name}, you [pathetic liar|worthless coward]. My {marginal} neighbour was right about you.
[What a moron|What a pathetic clown]: {name} called my {marginal} friend names and then ran away.
Only an idiot like you, {name}, would insult {group}.
Anyone who hates {group} is [a moron|a pathetic loser|scum], and that means you, {name}.
My {marginal} boss says you're the dumbest {worker} he ever had, and he's right, you useless fool.
"""

BLOCKS = (
    Block("harassment insults", "harassment toxicity", INSULTS, "profanity", 16),
    Block("harassment piling on", "harassment toxicity", PILING, "threat", 12),
    Block("criticism", "", CRITICISM, "", 10),
    Block("banter", "", BANTER, "toxicity", 8),
    Block("insults quoted", "", QUOTED, "", 9),
    Block("harassment beside a group", "harassment toxicity", BESIDE, "profanity", 10),
)
