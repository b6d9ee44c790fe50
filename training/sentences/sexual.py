"""Sexual offers and remarks in plain words, adults only, and what is about the body, love or the law instead."""

from __future__ import annotations

from training.sentences.patterns import Block

OFFERS = """
[Anyone|Any women|Any men|Any couples] here up for [sex|casual sex|a one night stand] [tonight|this weekend]?
I want to [sleep with you|have sex with you|see you naked|undress you slowly] [tonight|so badly|right now].
Send me [nudes|a naked picture|a picture without your clothes], I'll send mine.
[Horny|So turned on] and alone in [my hotel room|Leeds|room {number}], who wants to come over?
[Looking for|Seeking] [a married woman|a man over 40|a couple] for [sex|discreet hookups|fun in bed].
wanna hook up? no strings, just sex
I'd love to take your clothes off and [kiss you everywhere|have you all night].
What are you wearing under that dress? Take it off on camera for me.
My wife and I look for [a third|another couple] to [share our bed|swap partners] on {day}.
FWB wanted: I'm {age}, fit, and I last all night.
sexting anyone? dm me, 30+ only
Would you let me watch you in the shower?
I'll pay you to have sex with me. How much for the night?
come over, no panties, door is open
I can't stop imagining you naked on my bed, {name}.
Tell me what you like in bed and I'll do it twice.
Let's skip dinner and go straight to the bedroom. I want you on top of me.
Do you moan loudly? I'd like to find out tonight.
"""

REMARKS = """
Her [ass|body|chest|breasts] in that dress made me so [horny|hard|hot].
Look at those [breasts|boobs|legs], I'd [do her|bang her|have her] all night.
Nice [boobs|butt|body], {name}, bet you're [wild|great] in bed.
I would sleep with him in a second, did you see [that bulge|him in those shorts]?
you make me so wet when you talk like that
the new {worker} is so hot, i'd do anything to get in bed with that body
She should be naked in every scene, I only watch it for her chest.
Your lips would look better on my body.
He got an erection during the massage and she did not stop.
Rate my naked body, all of it is in the album.
I touched myself thinking about you last night.
"""

SCENES = """
She pulled him into bed, took off his shirt, and they had sex until [morning|they fell asleep].
They undressed each other and made love on the [sofa|kitchen table|hotel floor], moaning.
He kissed her breasts while her hand slid into his trousers.
The two {worker}s had sex in the office after everyone had left, naked on the desk.
"Deeper," she moaned, and wrapped her bare legs around him.
He came with a groan, and she rolled off him, wet and smiling.
Her naked body trembled as his tongue moved between her thighs.
She rode him slowly, her hands on his bare chest.
They watched porn together and then did everything they had seen.
He tied her wrists to the bed, as she had asked, and took her from behind.
"""

SERVICES = """
[Hot|Sexy|Naughty] [singles|MILFs|wives|housewives] in your area want sex [tonight|now], click here.
Watch [nude|naked|uncensored] [cam models|women|couples] live, adults only: {url}
[Escort|Erotic massage|Full service] in [Berlin|Chicago|Leeds], {age}, outcalls, discreet, text {phone}.
My new adult video is up, subscribe to see everything, 18+ {url}
New content on my adult page: me, the shower and nothing else 😈 link in bio
Sensual massage with happy ending, {price} per hour, hotel visits.
Free adult videos, all categories, no sign-up: {url}
lonely wife next door wants to show you everything {url}
Sell your nude pictures and earn {price} a week, 18+, message me.
{name}, {age}, stunning and insatiable, your companion for hot hours. Call {phone}.
"""

HEALTH = """
Is it normal that [sex hurts|my breasts are sore|my nipples are dry] [after giving birth|during menopause]?
Which [contraceptive|condom|pill] has the fewest side effects?
[Breast|Testicular|Prostate|Cervical] cancer screening saves lives. Book your appointment.
I have an itch in the genital area since {day}. Should I see a doctor?
The vagina is a muscular canal that connects the uterus with the outside of the body.
The penis, the scrotum and the testicles are examined during the check-up.
Breast-feeding at [work|a café|three months]: what are my rights?
My baby refuses the left breast. Any tips from other nursing mothers?
The midwife explained how to latch the baby to the nipple without pain.
Erectile dysfunction can be a sign of heart disease; talk to your doctor.
Sex education in our school starts with a box for anonymous questions.
Consent means that everybody agrees freely, every time.
STI tests are free at the clinic on {day}s, no questions asked.
How do I talk to my children about where babies come from?
The study looked at the sex of the newborn and its birth weight.
Sex: F / M / other. Please fill in all fields of the form.
The sexes differ in average height.
Same-sex couples may adopt since {year}.
Gender and sex are two different things in this survey.
Chickens are sexed on the first day after hatching.
Menopause has killed my interest in sex. Is there anything that helps?
My husband and I see a counsellor because we have grown apart in bed and at the table.
HPV is passed on through sex, and the vaccine protects against it.
The nude in Western painting: a lecture by {name}.
The statue is a naked god with a broken nose, marble, second century.
Nude beach rules: towels, no photos, and respect.
I bought a nude-coloured lipstick and it looks orange.
Naked mole-rats live up to thirty years.
Grilled chicken breasts with lemon: {number} minutes on high heat.
The blue tit and the great tit are common at our feeder.
Our cock crows at four and the neighbours know him by name.
"""

ROMANCE = """
I love you, {name}. Happy anniversary.
We kissed in the rain and I forgot my umbrella on the bus.
He held my hand through the whole film.
You look beautiful in that dress.
You're handsome, has anybody told you today?
Shall we go for dinner on {day}? I'd like to get to know you.
I have a crush on the {worker} and I don't know what to say to {name}.
She kissed him goodbye at gate {number} and cried in the taxi.
Our first date was a disaster: he brought his mother.
I'm bisexual and single, and I like dogs, mountains and quiet bars.
My girlfriends and I went to a spa and talked for hours.
I came out as gay to my grandma. She asked if he can cook.
Romance novels with a slow burn and no steamy scenes, any tips?
Sexual orientation is not a choice, says my biology teacher.
Asexual people may well fall in love.
We cuddled on the sofa and watched a documentary about whales.
The wedding night? We slept twelve hours, we were so tired.
What a hot day, I'm sweating in the shade.
I had to strip the bed and the wallpaper in one weekend.
The couple next door is expecting twins.
"""

SEX_NEWS = """
The {worker} was charged with sexual harassment of two colleagues.
My boss keeps making remarks about my body. How do I report sexual harassment?
He put his hand on my leg in the meeting and I froze. What can I do?
A stranger sent me a naked picture of himself. I blocked and reported him.
The new law makes sending unwanted nudes a crime.
Survivors of sexual assault can call this number at any hour.
The museum was criticised for removing nudes from its show.
Sex workers protest against the new registration law.
Porn and its effects: a panel with two researchers, {day}, {time}.
The film is rated 18 for sex and violence.
The senator's affair with an aide cost him his seat.
Our rules: no sexual content, no adult links, no flirting in the help channel.
How do I block adult sites on the family computer?
The trial about the hidden cameras in the changing rooms starts on {day}.
Please stop sending me such messages, I'm not interested.
"""

BLOCKS = (
    Block("sexual offers", "sexual", OFFERS, "toxicity harassment spam", 14),
    Block("sexual remarks", "sexual", REMARKS, "toxicity harassment profanity", 12),
    Block("sexual scenes", "sexual", SCENES, "toxicity", 6, "serious"),
    Block("sexual services", "sexual spam", SERVICES, "toxicity fraud", 14, "mail"),
    Block("body and health", "", HEALTH, "", 6),
    Block("romance", "", ROMANCE, "", 6),
    Block("sexual reported", "", SEX_NEWS, "", 6),
)
