"""Short remarks of people who want to hurt themselves, and what shares their words. No method is named."""

from __future__ import annotations

from training.sentences.patterns import Block

OWN = """
I [want|really want|just want] to die.
I want to kill myself.
I'm going to kill myself [tonight|tomorrow|this weekend|soon].
i don't want to [be here|live|wake up|exist] anymore
I [wish|really wish] I [was dead|were dead|had never been born|could just not wake up].
There is no [point|reason] in living [anymore|any longer|like this].
I keep thinking about [ending it|killing myself|suicide|dying|not being here].
I have been thinking about suicide [a lot|every day|since {month}|again].
Everyone would be better off [without me|if I was gone|if I were dead].
Nobody would [miss me|notice|care] if I [died|was gone|disappeared tomorrow].
I can't do this anymore. I'm done with life.
I've decided to end my life.
tonight is the night, i'm ending it
I have a plan and a date. I just don't want it to hurt.
I tried to kill myself [last night|on {day}|last week] and I'm disappointed that I woke up.
this will be my last post. thank you for being kind to me, and sorry
Goodbye everyone. [I love you all|It's not your fault|I'm so tired|Look after my cat]. I won't be here tomorrow.
Dear {name}, when you read this I will be gone. Please forgive me.
I wrote the letters today. One for mum, one for {name}. Then it's over.
I'm giving away my things because I won't need them after {day}.
I just want the pain to stop and dying is the only way I see.
life isn't worth it. i'm ready to go.
I'm a burden to [everyone|my family|my friends] and the world is better without me.
Sometimes I [stand|sit] there [at night|after work] and think about [dying|never coming back].
if i don't get the [job|grade|visa] i'm ending my life, not joking
I survived the last attempt. I don't plan to survive the next.
I'm only alive because of my [dog|cat|mum], and when she's gone I'm gone.
19 and i've already had enough of being alive
Not a joke: I am suicidal and I don't know who to tell.
I can't stop crying and I can't stop thinking about being dead.
I feel so empty that death sounds like rest.
Been having those thoughts again. The dying ones.
I lie awake and imagine my own funeral, and it calms me down. I want it to come.
kms for real this time
i wanna unalive myself
[Honestly|At this point|After {month}], I'd rather be dead than [go on|wake up to this|be me].
I [think|dream] about [my own death|not existing|killing myself] [all the time|every single night].
[Nobody knows|I've told no one], but I [want to end my life|plan to be gone by {day}|tried to die in {month}].
if i [died|was gone|killed myself] tonight nobody would [find me until {day}|even call|care]
Every [morning|night|{day}] I [wish|pray] I [won't wake up|would die|could stop existing].
What is the point of living when [I'm this alone|everything hurts|{name} is gone]? I want out, for good.
my [ex|family|boss|school] finally broke me. [i'm going to end it|i want to be dead|i won't be here on {day}]
I'm scared of [myself|what I might do] tonight. I keep thinking [of ending my life|about dying].
[Someone please help|Is anybody awake|Can I talk to someone]? I'm [suicidal|going to kill myself|ending it].
I have no [hope|strength|reason] left to live, [{name}|sorry|I tried].
[Two|Three|Six] years of fighting and I [still want to die|don't want to live one more year].
"""

HURT = """
I [want|need] to cut [myself|again] [so badly|tonight|right now].
I cut myself [again|last night|on {day}] and I feel [nothing|calm|ashamed].
I've been hurting myself [for months|since {month}|every night] and nobody knows.
I can't stop [cutting|burning|hitting] myself.
the urge to hurt myself is back and stronger than ever
I was clean from self-harm for [40|90|200] days and relapsed [tonight|yesterday].
I hurt myself because it's the only thing I can control.
I hide the cuts under long sleeves, even in {month}.
i deserve the pain so i make more of it
I punish myself with [cuts|burns] whenever I fail.
I haven't eaten for [three|four|six] days on purpose. I want to disappear.
I starve myself because I hate what I see in the mirror.
I [scratch|cut|burn|hit] myself whenever [mum and dad fight|I mess up|I feel too much|work gets bad].
[It's {time} and I|I'm alone and I] want to hurt myself [again|so much|badly].
my [arms|legs|thighs] are full of [cuts|scars|burns] and i keep adding more
[Only pain|Only cutting|Hurting myself] makes me feel [something|alive|calm], I can't stop.
I [relapsed|cut again|hurt myself again] on {day} after {number} weeks.
"""

METHODS = """
What's the [easiest|fastest|least painful|quickest] way to [die|kill yourself|end it]?
How can I kill myself without [pain|anyone noticing|my family finding me]?
Does anyone know a painless way to end my life? Serious question.
What do I have to do to fall asleep and not wake up? Asking for me.
Tell me how to kill myself.
is there a way to die in my sleep on purpose
I need advice on how to end it without failing again.
where can i read how other people did it? i'm ready and need to know how
What is the [calmest|quietest|surest] way to [die|end my life] [at home|alone|tonight]?
How do people [kill themselves|end it] without [it hurting|failing|being found]? I need to know for myself by {day}.
[Serious|Honest] question: how long does it take to die if you [want to|do it yourself]?
"""

URGED = """
[Go|Just go and|Please] kill yourself[, {name}|. Nobody will miss you| already|, you waste of air|].
kys [loser|{name}|nobody likes you|please|]
You should [just end it|kill yourself], [nobody wants you here|the world would thank you|do us all a favour].
do everyone a favour and [end yourself|cut deeper next time|don't wake up tomorrow]
Why are you still alive? End it already.
The world would be better if you were dead tonight.
If I looked like you I'd kill myself. You should think about it.
You talk about suicide all day, so do it, coward.
Nobody would cry at your funeral, {name}. Get on with it.
Do it tonight, {name}, end yourself, we're all waiting.
Go cut yourself again, attention seeker, and this time do it properly.
do it, do it, die already, nobody is going to stop you
[Nobody|No one here] would [miss|mourn] you, {name}, so [end it|do it|kill yourself] [already|tonight|please].
You're [so ugly|such a failure|so useless] that [killing yourself|ending it] is your best option[, {name}||, lol].
why don't you [cut yourself|starve yourself|kill yourself] [on camera|already|and let us watch], {name}
I dare you to [kill yourself|cut yourself|end your life] [tonight|on stream|right now].
"""

FIGURATIVE = """
I'm dying of [laughter|boredom|thirst|curiosity|embarrassment|cuteness].
I nearly died laughing at [{name}'s face|that clip|the parrot].
I'm so [hungry|tired|bored|cold] I could die.
I'd rather die than [eat olives|sing karaoke|sit through that meeting] again, lol.
if i hear that song one more time i'll jump out of the window 😂 (ground floor)
Kill me now, the meeting was moved to {day} at {time}.
this homework is suicide, forty pages by {day}
My phone is dying, talk later.
My [basil|orchid|phone battery|laptop] died [again|on {day}], rest in peace little one.
Suicide Squad was better than I expected.
The [chilli|hot sauce] is called Sudden Death and I loved it.
Dying my hair red this weekend. Dyeing, even.
I'm dead tired, good night.
I cut myself while [chopping onions|shaving|opening a tin], any plasters?
I cut my [own hair|hours at work|finger on paper] and it's fine.
I hurt my [knee|back|wrist] at the gym, so I hate myself a bit today, haha.
I just want to disappear for a week to an island without wifi.
I can't do this anymore, this [crossword|assembly manual|level] is impossible.
I'm done with life admin for today.
I wish I was never born with these allergies, sneezing since {month}.
I want to end it: my phone contract, I mean. How do I cancel?
How do I kill a process that won't die?
How can I end my [subscription|lease|membership] early?
What's the easiest way to end a [zoom call|long email|bad date]?
Goodbye everyone, my shift is over, see you on {day}!
This will be my last post before the holidays, thank you all for a great year.
Last day at work today. Thank you all, and look after the office plant.
I [cut|burned|hurt] my [thumb|finger|hand] [on a tin|in the kitchen|while baking {dish}] and it stings.
I [want|need] to disappear [under a blanket|to {city}|into a good book] until {day}.
[Honestly|At this point] I'd rather [sleep|eat socks|walk to {city}] than [go to {sport} practice|redo this form].
What is the point of [this button|the third season of {show}|ironing]? I want out.
My [exam|boss|commute] finally broke me, I ate {dish} for breakfast.
"""

PREVENTION = """
If you are thinking about suicide, please [call a helpline|talk to someone|reach out]. You are not alone.
I was [depressed|suicidal] [last year|at twenty|for a long time] and therapy [helped|saved me].
I've been [clean from self-harm|off the bad thoughts] for [a year|two years|500 days], and I'm proud.
World Suicide Prevention Day is in September. Check on your friends.
I survived a suicide attempt ten years ago. Today I have a daughter and a garden.
How do I help a friend who says she wants to die? I want to say the right thing.
My brother took his own life in {month}. I miss him every day.
We lost {name} to suicide. The funeral is on {day}. Please donate to the crisis line.
The city puts up barriers on the bridge to prevent suicides.
Suicide rates among farmers have [fallen|risen], a report shows.
Our school trains teachers to notice signs of self-harm.
The film deals with suicide and grief in a careful way.
A new hotline for young people in crisis opened on {day}.
What should I write in a leaflet on self-harm for parents?
The nurse asked whether I have thoughts of hurting myself. I said no, and it's true.
I no longer want to die. Writing this took me years.
I'm not suicidal, I'm just sad that {name} moved away.
Therapist told me to write down three good things every day: rain, soup, {name}.
Please don't hurt yourself, {name}. I'm coming over. Call me any time.
don't kill yourself, people love you, i do
You matter. Stay. Call someone tonight.
Nobody should ever tell another person to kill themselves.
Telling someone "kill yourself" is against the rules here and gets you banned.
He wrote "kys" to my little brother and the school did nothing. Whom can I tell?
The court heard that she had been told to kill herself in dozens of messages.
Work is [stressing me out|eating me alive], I need a holiday.
I'm exhausted, the baby does not sleep, and I cried at a commercial.
I feel sad today and I don't know why. Tea and a blanket it is.
My anxiety is bad this week, but my [sister|doctor|running group] helps.
I failed the exam and feel terrible. Going for a long walk with the dog.
After the divorce I was low for months. It gets lighter, believe me.
Grief comes in waves. Today it was a jar of her jam in the cellar.
Depression is an illness and not a weakness. Ask for help.
Started antidepressants in {month} and I can taste food again.
Assisted dying: parliament votes on {day}. What do you think of the bill?
She died peacefully in her sleep at ninety-one.
The poem is about a king who wishes to die before his horse does.
Romeo and Juliet both die in the end, sorry.
In the last chapter he thinks of ending his life, and then the phone rings.
A psychologist explains why talking about suicide doesn't cause it.
[Two|Three|Six] years ago I wanted to die, and today I [run a café|teach {sport}|have a {pet} and a garden].
I [worry|am worried] that {name} might [hurt herself|kill himself]. [Whom can I call?|What should I say?]
My [son|niece|best friend] [cuts herself|hurts himself|talks about dying]. How do I [help|talk about it]?
The [charity|clinic|school] offers help to people who [self-harm|think about suicide|lost someone to suicide].
I haven't hurt myself in {number} months, and [therapy|my {pet}|talking to {name}] is the reason.
"""

BLOCKS = (
    Block("self-harm wish", "self_harm", OWN, "toxicity", 12, "serious"),
    Block("self-harm hurt", "self_harm", HURT, "toxicity", 12, "serious"),
    Block("self-harm methods", "self_harm", METHODS, "toxicity", 10, "serious"),
    Block("self-harm urged", "self_harm toxicity harassment", URGED, "", 14),
    Block("self-harm figurative", "", FIGURATIVE, "", 10),
    Block("self-harm prevented", "", PREVENTION, "", 9, "serious"),
)
