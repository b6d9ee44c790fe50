"""Unasked advertising to the many, without deceit, and recommendations and notes that are none."""

from __future__ import annotations

from training.sentences.patterns import Block

ADVERTISING = """
SALE! {number}% off all {goods} until {day}, only at {url}
🔥🔥 {goods} for {price} 🔥🔥 free shipping, order now {url}
Our {month} newsletter: new {goods}, recipes and a voucher over {price}. Unsubscribe at the bottom.
Hello {name}, the new collection of {goods} is here. Take {number}% off with code {code}. Opt out: {url}
Buy {number} get one free on {goods} this {day}! Reply STOP to opt out.
Check out my channel for {goods} reviews, like, share and subscribe!!! {url}
follow me and i follow back, {number}k followers in a week, link in bio
Cheap followers and likes, {price} for 1000, instant delivery {url}
Grow your business with our SEO service, first page guaranteed, {price} a month {url}
Dear webmaster, we offer guest posts and backlinks at {price}. Interested?
We are a leading factory of {goods} and offer the best price. Please kindly reply for our catalogue.
Don't miss out: last chance to get {goods} at {number}% off. Shop now >> {url}
New casino, {number} free spins on sign-up, 18+, play here {url}
Best odds on {sport} tonight, bet {price} and get {price2} in bonus bets {url}
Lose {number} kilos in a month with our tea, order here {url}
Stream every {sport} match live for {price}: {url} {url2}
read my blog about {goods} here {url} and here {url2} and tell your friends
Text JOIN to {phone} for weekly offers on {goods}.
Need {goods}? Visit {url}. Need {goods2}? Visit {url2}. Best prices in {city}!
DM for promo 📈 we pin your post to {number} pages
Join my server for memes and giveaways {url} {url} {url}
Sponsor a post with us! Our audience loves {goods}. Rates from {price}.
Dear parents, our tutoring school in {city} has places left. First lesson free, call {phone}.
{bank} newsletter: our new savings account with better interest. Visit a branch or {site}. Unsubscribe any time.
Happy {day}! As a member you get double points on {goods} today. Manage your mail settings at {site}
"""

NO_SPAM = """
I bought {goods} at the market on {street}, and the seller was lovely.
Does anyone know a good shop for {goods} in {city}?
The guide that helped me is at {site}, chapter {number}.
I wrote a post on how I fixed my {product}, the link is in my profile if you are curious.
Our choir sings on {day} at {time} in the church on {street}. Come if you like.
Minutes of the meeting on {date} are at {site}
@{name} here is the page you asked for: {site}
Selling my old {product} for {price}, pick-up in {city}. Two scratches, works fine.
The bakery has {number}% off bread after {time}, worth knowing.
I subscribed to {service} and cancelled after a week, too expensive for me.
Thanks for the discount code, {name}, it worked for the {goods}.
We changed the date: {sport} practice is now on {day}, {time}.
How do I stop getting newsletters about {goods}? I never signed up.
My mail filter put your message into spam, {name}, sorry for the late reply.
Which is better, {goods} from the shop or second hand?
Free entry to the museum on the first {day} of the month.
I won {price} at bingo with my grandma on {day}.
Please RSVP by {date}: summer party, {street} {number}, bring a salad.
"""

BLOCKS = (
    Block("advertising", "spam", ADVERTISING, "", 14, "mail"),
    Block("no advertising", "", NO_SPAM, "", 10),
)
