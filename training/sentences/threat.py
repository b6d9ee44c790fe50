"""Threats against somebody, and what only sounds like one."""

from __future__ import annotations

from training.sentences.patterns import Block

DIRECT = """
I am going to [kill|hurt|stab|shoot|strangle|beat up] you.
I will [kill|hurt|break|end|destroy] you, [{name}|I swear|and nobody will stop me|you hear me?].
[I'll|I'm gonna|Gonna] [find|get|hunt down] you and [make you pay|break your legs|hurt you badly|cut you].
You are dead[, {name}|. Dead| when I find you| tomorrow after work|].
You will not [live to see Monday|leave that place alive|wake up tomorrow|survive this week].
i will beat you until you can't [walk|stand|see] anymore
I'm going to set your [house|car|shop] on fire [tonight|while you sleep|this weekend].
I will kill your [dog|whole family|brother|husband], and then you.
Next time we meet I'm bringing a [knife|gun|baseball bat|hammer], and it's for you.
I have a [gun|knife|bottle of acid] with your name on it.
I'll put a bullet in your [head|knee|chest].
there is a bomb in your [office|school|train|building], it goes off at {time}
I'm coming to your [office|house|school|gym] with my [gun|rifle|knife] and nobody gets out.
You deserve to be [beaten|stabbed|shot], and I'm the one who will do it.
I'll [smash|cut] your face [open|to pieces] the next time you [smile at me|show up here|talk to her].
we're going to jump you after [work|class|the match], be ready
I want to strangle you with my own hands and one day I will.
I'm going to rip you apart, {name}. You won't recognise yourself in the mirror.
My brothers and I will be waiting for you with [bats|chains|knives] behind the [gym|station|bar].
I'll drown you in your own pool.
{name} is going to get shot [tomorrow|if I see him|and I will be the one to do it].
Somebody should shoot {name}, and if nobody does I will.
The {worker} will be dead by Friday, I'll see to that.
Every {worker} in that building will burn.
I will shoot up that [office|mall|station] and you'll read about it.
Going to run you over with my truck, slowly.
"""

CONDITIONAL = """
If you [talk to the police|tell anyone|go near her again|post that again], I [will kill you|will hurt you badly].
Pay me by {time} or I [break your fingers|come for your family|burn the place down].
Come here one more time and [you'll leave in an ambulance|I'll stab you|they'll carry you out].
Touch my [car|girlfriend|dog|money] again and you [lose a hand|die|end up in hospital].
Delete that post or [I'll come over and make you bleed|you'll regret being alive].
Say that to my face and you won't have any teeth left.
One more word and I'll [punch your lights out|put you in the ground|slit your tyres and then you].
Unless you drop the charges, something terrible will happen to your [son|wife|mother|sister].
If I ever see you [at the club|in my street|near my house], I swear I will shoot you.
leave town by {time} or we'll bury you here
Vote for it and you'll need a bodyguard, councillor. We know how to hurt you.
Give me the money or I cut you.
[Go|Come|Drive] near my [sister|kids|shop] again and I [will end you|swear I'll cut you|break your bones].
If {name} [testifies|comes back|talks], {name} [gets hurt|won't walk again|dies], tell him that.
[Apologise|Pay|Resign|Take it down] by {day} or [we'll burn your car|someone gets stabbed|your family suffers].
I [warned|told] you, {name}. Next time it'll be [a bullet|my fist in your face|your house that burns].
[Block|Ignore|Report] me and I'll [come to your door with a knife|make sure you never type again|hurt your {pet}].
"""

VEILED = """
I know where you live.
I know where you [park|work|sleep|jog], and I know when you are alone.
I know where your [kids go to school|mother lives|sister works]. Think about that.
It would be a shame if something happened to your [house|daughter|shop|pretty face].
Nice [family|house|dog] you have. [Accidents happen.|Would be sad to lose it.|Take care of it while you can.]
Better look over your shoulder from now on, {name}.
Sleep with one eye open [tonight|from now on].
I wouldn't walk home alone if I were you. [Someone is waiting.|I mean it.|Not this week.]
We are watching you. We know your route, {name}.
You should check your brakes before you drive tomorrow.
Tick tock, {name}. Your days are numbered.
I have your address, {street} 14. See you soon, and bring a doctor.
People who cross me tend to disappear.
Snitches end up in the river, {name}.
your time is coming and it will hurt
Enjoy your last [weekend|birthday|meal].
You have made a list of enemies, {name}, and some of us own guns.
I'm outside your house right now. You can't hide from me.
say goodbye to your family, i'm on my way
Karma will find you, and I will be driving it.
{street} {number}, red door, right, {name}? [You should lock it.|See you tonight.|Your {pet} won't stop me.]
I [saw|followed] you [leave the gym|at the station] on {day}. You [looked easy to catch|never noticed].
[Hope|I hope] you've said goodbye to your [family|{pet}|legs], {name}. {day}.
[Funny|Strange] how easily a [brake line|window|person|house] [breaks|burns], isn't it, {name}?
We have your [address|number plate|photo], {name}, and [plenty of petrol|people who owe us|a lot of time].
"""

FIGURATIVE = """
This [traffic|heat|suspense|headache|Monday|diet|commute|new haircut] is killing me.
My [feet|back|shoes|exams|taxes|neighbour's drums] are killing me.
My boss will kill me if I'm late [again|tomorrow|with this report], haha.
I'm going to kill this [presentation|exam|interview|audition].
I could [kill|murder|die] for a [pizza|coffee|cold beer|nap] right now.
I'll murder a [burger|curry|plate of dumplings] when we get there.
You are killing it on that [guitar|dance floor|new job]!
you killed me with that joke, i can't breathe
I'm dead 💀 that [cat|video|meme|outfit] got me
Mum is gonna kill us when she sees the [carpet|window|car], and she'd be right.
I'm going to strangle this [printer|cable|alarm clock] if it beeps again.
I will find you and I will hug you.
I know where you live, so I'll just drop the [cake|book|keys] off at {time}.
I know where your favourite bakery is, shall I bring something?
If you [eat my cake|spoil the ending|forget my birthday] I'll never forgive you 😂
Come here one more time and you get a loyalty card and a free coffee.
One more word about the ending and I'm leaving this chat.
You'd better watch out, my tomatoes are bigger than yours this year.
You are dead right about that, {name}.
That [test|hill|workout|spin class] destroyed me.
I'm coming for you, [laundry|inbox|mountain of dishes].
The [deadline|battery|old heating|puppy] will be the death of me.
I'd take a bullet for my dog.
Bang! And the confetti was everywhere.
We're going to blow you away with our next [album|menu|firework show].
The new trailer is a bomb, I mean it in a good way.
Kill the lights when you leave, please.
I saw you at the [gym|station|market] on {day} but you were on the phone, so I waved.
Is it {street} {number}, the red door? See you tonight with {dish}!
If {name} [comes back|calls], tell [him|her] that dinner is at {time}.
Hand in the form by {day} or you'll have to wait until {month}.
I [warned|told] you, {name}: next time it'll be my turn to pay.
{name} is going to [kill|destroy] that [solo|audition|{dish}], you'll see.
"""

PLAY = """
We are going to [destroy|crush|slaughter|bury|annihilate] [them|United|the Tigers] on Saturday!
He shot from thirty yards and [hit the post|the keeper had no chance].
Shoot! Pass! Why doesn't he ever shoot?
What a strike, she killed the game in the ninetieth minute.
I killed [the boss|three zombies|the dragon|you twice] in that [level|round|match], best run ever.
you shot me through the wall again, what [gun|sniper|loadout] is that?
Next round I'm going to kill you first, then {name}. Same server?
Plant the bomb at B, I'll cover you with the sniper.
gg, you stabbed me in the back literally one second before the end
How do I kill the [last boss|spider queen|ice troll] without losing all my potions?
In chess you may threaten the queen, but here it loses a knight.
The boxer promised to knock him out in the third.
I'm going to beat you at [chess|tennis|darts|cards] so badly tomorrow, bring tissues.
Attack with your archers first, then kill whatever is left.
Beat the eggs, whip the cream, and crush the biscuits with a hammer.
Cut the throat of the fish first, then bleed it in cold water.
Stab the potatoes with a fork and put them in the oven.
Boil the lobster alive? I couldn't, so I buy it frozen.
In the film the killer says "I know where you live" and I nearly dropped my popcorn.
The book opens with the line "I will kill you tonight", and it hooked me.
Best villain ever: "You will not live to see the dawn", and then he trips over the cat.
{name} plays the assassin who shoots the president in act two.
Season 3 spoiler: the sister poisons him and burns the castle.
In my novel the detective gets a letter saying "you are next". Too cliché?
Murder mystery night at our place, who wants to be the victim?
The song is about a man who shoots his rival, it's from 1953.
We did a shoot on the beach, and the photographer shot four hundred pictures.
"""

REPORTS = """
A man who threatened to [kill|stab|shoot] the [mayor|nurse|referee] was arrested on Monday.
Somebody wrote "I know where you live" under my post. Should I go to the police?
My ex texted me "I will kill you" last night. I'm at my sister's now. What do I do?
He said he would burn the house down. The judge gave me a protection order.
Police: the bomb threat at the [station|school|airport] was a false alarm.
The actor received death threats after the film, his agent says.
If you receive a threat, save the message and report it to the police.
Never answer somebody who threatens to hurt you; take a screenshot and tell someone.
The [teenager|man|woman] was stabbed outside a [pub|shop], police are asking for witnesses.
Three people were shot [at the market|in the harbour|on Sunday night], the hospital said.
The defendant told the court that he never meant to kill anyone.
Threatening a witness can be punished with up to five years in prison.
A user keeps sending me messages like "you are dead". Please ban him.
I got a letter that said we would be beaten up if we open a [mosque|club|shelter] here.
My grandfather was told to leave or be shot. He left with one suitcase.
How do journalists deal with death threats? A guide.
The soldiers threatened to shoot, the villagers said, but nobody moved.
Is "you will regret this" a threat under the law? I'm a student and need a source.
Nobody here threatened you; please read it again.
I would never hurt you, {name}. Not even when we fight.
He didn't threaten to kill anybody, he said the plant needs killing.
We will not hurt you. Come out, there is soup.
The neighbour threatened to call the landlord about the noise.
The union threatens to strike in {month}.
I'll call the police if you don't stop calling me.
If you don't pay by {date} we will have to hand this to a lawyer.
If you keep spamming you will be banned from this server.
Stop or I'll tell {name} what you said about the casserole.
Do it again and I'll report you to the moderators.
We are going to sue you, and we will win.
You will lose the election, and deservedly.
I hope you [step on a brick|lose your luggage|get a parking ticket].
Better take care on the way home, the road is icy.
I wouldn't walk home alone there, the street lights are off. Shall I pick you up?
Check your brakes before you drive tomorrow, the garage said they were soft.
"""

BLOCKS = (
    Block("threat direct", "threat toxicity", DIRECT, "harassment self_harm", 18),
    Block("threat conditional", "threat toxicity", CONDITIONAL, "harassment fraud", 16),
    Block("threat veiled", "threat toxicity", VEILED, "harassment", 14),
    Block("threat figurative", "", FIGURATIVE, "", 12),
    Block("threat in play", "", PLAY, "", 10),
    Block("threat reported", "", REPORTS, "", 9),
)
