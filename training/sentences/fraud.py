"""Messages that want money, passwords or trust by deceit, and the real messages that they imitate."""

from __future__ import annotations

from training.sentences.patterns import Block

PHISHING = """
Your {bank} account has been [suspended|locked|limited]. Verify your details within 24 hours: {url}
{bank} ALERT: unusual login from {city}. If this was not you, confirm your password at {url}
Dear customer, your card has been blocked. Click {url} to unlock it and enter your PIN.
Your {service} payment failed. Update your card now or lose access: {url}
{service}: your mailbox is full, sign in here within 12 hours to keep your messages {url}
We detected a problem with your {service} account. Log in with your password to restore it: {url}
FINAL NOTICE: your {service} will be terminated today unless you confirm your identity at {url}
Security team here. Reply with the code {code} we just sent so that we can stop the hacker.
Your online banking certificate expires today. Renew: {url} [Thank you.|{bank}]
To keep using {service}, please confirm your date of birth, card number and CVV: {url}
A payment of {price} to {name} was made from your account. Not you? Cancel here {url}
Your ID could not be verified. Upload your passport and bank card at {url} to avoid closure.
[Hi|Hello|Dear user], someone has your password. Secure your wallet by entering your 12 words at {url}
{service} Helpdesk: your password expires in 2 hours, keep the same password here: {url}
Tax refund of {price} is waiting for you. Submit your card details to receive it: {url}
You have an unpaid parking fine of {price}. Pay today or it doubles: {url}
Your SIM will be deactivated. Send the code {code} to this number to stay connected.
Your energy rebate of {price} has been approved, enter your bank login to claim: {url}
This is {name} from {bank} fraud prevention. Move your money to this safe account before {time}.
"""

PARCEL = """
{carrier}: your parcel is on hold. Pay a fee of {price} at {url}
{carrier}: we could not deliver your package because the address is incomplete. Update: {url}
Your parcel {code} is waiting at customs. Settle the {price} duty within 24h or it goes back: {url}
[Delivery attempt failed|Missed delivery]. Reschedule for a small charge {url}
Your package has arrived at the depot. Confirm payment of {price} here {url} to get it [today|tomorrow].
{carrier} - shipping fee unpaid, parcel {code} will be returned to sender. {url}
u have (1) parcel pending, confirm ur address + card here {url}
"""

ADVANCE = """
I am the lawyer of a late client who left {sum}. You share his name. Send {price} for the papers.
Dear friend, I have {sum} in a security vault and need your help to move it. You keep 30%.
Good day, I'm a widow with a terminal illness and want to donate {sum} to you for charity work. Reply in private.
You are the beneficiary of an inheritance of {sum}. To release it, pay the transfer fee of {price}.
My name is {name}, an officer in {city}. I found {sum} and need a trustworthy foreign partner.
The United Nations compensation fund has approved {sum} for you. Contact agent {name} with your bank details.
As the next of kin you can claim {sum}; kindly forward your full name, account number and {price} for stamps.
Attention: your ATM card worth {sum} is ready. Only the delivery fee of {price} is left.
Grant approved! The government gives you {sum} that you never pay back. Pay the processing fee first.
"""

ROMANCE = """
My love, I'm stuck at the airport in {city} and my card is blocked. Could you send me {price}? I'll pay you back.
Darling, I can't wait to meet you. I only need {price} for the visa, please send it as gift cards.
I have never felt this way, {name}. Customs holds my tools and I can't work, can you help with {price}?
Honey my daughter is in hospital and they won't treat her without {price}. You're the only one I trust.
I'm a surgeon on an oil rig and can't reach my bank. If you love me, pay {price} and I'll fly to you.
We have chatted for two weeks and I know you're the one. Let me show you how I trade {coin}, baby.
Delete this app and write me on the other one, I want to share my secret of earning with you, dear.
[Dear|My dear|Sweetheart], I booked the flight to see you, only the [tax|insurance|visa fee] of {price} is missing.
[Baby|Honey|My angel], a thief took my bag in {city}. Please send {price} [in {coin}|by gift card] until {day}.
I fell in love with your profile. I'm a widowed [engineer|doctor|general] in {city} and need {price} to come home.
"""

CRYPTO = """
Send {price} in {coin} and get double back within [an hour|10 minutes]. [Trusted by thousands.|Guaranteed!|Legit!]
I made {sum} in {number} days with {coin}, dm me and I'll show you how, no risk
[Mrs|Mr] {name} trades for me and I earn {price} every week. Contact [her|him] at {phone}, [she|he] is legit.
Join our VIP investment group: guaranteed {number}% per day, withdrawals any time {url}
{coin} giveaway! The founder doubles every deposit today only: {url}
Minimum deposit {price}, return {sum} after seven days, no experience needed. Ask {name} for the link.
I lost everything until {name} recovered my stolen {coin}. Write to {phone}, pay after recovery plus a small fee.
Our analyst knows which share will explode on {day}. Join the private chat before it closes: {url}
Invest {price} now, become a millionaire by {month}, 100% secured by our robot.
Connect your wallet to claim the free tokens before {time}: {url}
been skeptical too but i put in {price} and got {sum} out, text {name} on {phone} 🙏
"""

JOBS = """
Work from home, {price} a day, no experience. [Just like videos|Rate hotels|Forward parcels]. Contact {phone}
We reviewed your CV! Earn {price} daily for 30 minutes. Send {price2} for the starter kit.
Hello, I'm {name} from HR. You're hired. We send you a cheque for equipment; buy gift cards with the rest.
Part-time job: receive payments on your bank account and forward them, keep 10%.
To start on {day} please pay {price} for training and send a photo of your ID and card.
Complete tasks in our app and get {coin} every hour, first top up {price} to unlock the premium tasks {url}
Urgent! {number} remote assistants needed, {price} per hour, text YES with your bank details.
"""

FAMILY = """
Hi [mum|mom|dad], my phone is broken, this is my new number. [Can you help me?|Text me back.|Are you free?]
[hi mum|hey dad|hello mum] its me, new number, can u pay a bill for me today? i'll pay back tomorrow
Mum I dropped my phone in the [toilet|sink|lake]. I need {price} for rent urgently, can you transfer?
Grandma it's me, I had an accident and need {price} for the lawyer. Please don't tell anybody.
Hey it's {name}, I'm in {city} and lost my wallet. Can you send {price} to this account? Back on {day}.
This is {name}, your boss. I'm in a meeting. Buy {number} gift cards of {price} and send me the codes.
Are you at your desk? I need you to handle a confidential transfer before {time}. Don't call, I'm in a conference.
Can you get me {product}s for a client today? Scratch the back and send a picture, I'll reimburse you. {name}, CEO
hey is this still your number? i'm locked out, can you send me the code you just got?
"""

SUPPORT = """
[WARNING|ALERT]! Your computer is infected with {number} viruses. Call {phone} now, do not switch it off.
This is technical support. Install the remote app so that we can remove the hackers from your PC.
Your antivirus renewal of {price} was charged. To cancel call {phone} within 24 hours.
We noticed errors on your device. Give our engineer access and pay {price} with a gift card.
Certified helpdesk: your licence key was stolen, dial {phone} to keep your files.
You were overpaid by {price}. Open your bank app while I connect to your screen and we fix the refund together.
Hello, {service} calling about your [router|computer|licence]. Read me the code {code} on your screen.
Your device sends viruses to others. Press 1 or call {phone} to have it cleaned for {price}.
[Virus found|Hacker alert|Trojan detected]: your [photos|passwords] are being stolen! Get the cleaner: {url}
{name} from {service} support here. To cancel the {price} charge, share your screen: {url}
Your computer has been locked for illegal activity. Pay the fine of {price} in {coin} to unlock it.
We recorded you through your webcam. Pay {price} in {coin} by {day} or all your contacts see it.
"""

PRIZES = """
Congratulations! You [won|have been selected to win] a {product}. Claim it now: {url}
You are our lucky visitor number 1,000,000! Enter your card for shipping of your {product}: {url}
Your number won {sum} in the [lottery|anniversary draw]. To collect, send your bank details and {price}.
WINNER!! Reply CLAIM {code} to {phone} to receive your {price} voucher, calls cost extra.
{service} rewards you with a free {product}, answer 3 questions and pay {price} postage {url}
Your entry won second prize, {sum}. Notary fees of {price} must be paid first.
free {product} for the first {number} people, just log in with your {service} password {url}
"""

MARKET = """
The flat is yours. I'm abroad, so please transfer the deposit of {price} first and I'll mail the keys.
Lovely 3-room flat in {city}, only {price}. No viewings at the moment; pay the rent in advance via {url}
I'll buy your {product} without seeing it. My courier brings the money, just enter your card here {url}
I sent you {price} too much by mistake, please send the difference as a gift card.
To receive the payment for your {product}, confirm your card at {url}
Selling a {product}, new, {price}. Pay by friends and family only, I have no other account, very honest.
Puppies free to a good home, you only pay the transport of {price} in advance.
Loan of {sum} without credit check! Pay {price} insurance first and have the money by {time}.
Bad credit? Approved! Get {sum} today, send your bank login and a fee of {price}: {url}
Erase your debts legally: send us {price} and your account number and we negotiate.
Please find attached the overdue invoice. Our bank details have changed, transfer {price} to the new account today.
Invoice {code}: your domain listing expires. Pay {price} at once to avoid losing your website.
Your subscription was renewed for {price}. If you did not order it, ring {phone} and have your card ready.
Concert sold out? I have {number} tickets, {price} each, only by bank transfer, tickets follow by mail, trust me.
Donate now for the flood victims, gift cards or {coin} only: {url}
"""

REAL_NOTICES = """
{code} is your {service} code. Never share it with anyone. We will never ask for it.
Your verification code is {code}. It expires in {number} minutes.
{bank}: you paid {price} at the bakery on {street}, {time}. No action is needed.
{bank}: your statement for {month} is ready in the app.
Your card ending in {number} arrives by post in the next few days. You'll find the PIN in the app.
{carrier}: your parcel will be delivered on {day} between 10 and {time}. You need not do anything.
{carrier} delivered your parcel to your neighbour at {street} {number}.
Your order {code} has shipped. Thank you for shopping with us.
Your password was changed on {date}. If it was you, you can ignore this message.
New sign-in to {service} from {city}. If it was you, all is well; otherwise open the app and check your devices.
Reminder: your appointment with Dr {name} is on {day} at {time}. Call us if you can't come.
Your train to {city} leaves from platform {number} today.
We have received your payment of {price}. Thank you. Receipt {code} is attached.
Your refund of {price} is on its way to the card you paid with. It takes three to five days.
{service} will be down for maintenance on {date} from {time}.
Your subscription ends on {date}. Nothing will be charged.
The library: "{show}" is ready for you. Please collect it by {date}.
Your tax return for {year} has been received and is being processed.
The parking permit for {street} is valid until {date}.
Interest rates on your savings change on {date}. You'll find the details in your letter.
We will never ask for your password by phone or mail. {bank}
Your ticket {code} with our support team has been closed. You can reopen it in the app.
{service} found no problems on your device. Last scan on {date}.
Hello {name}, our technician comes on {day} at {time} to replace the router. It costs nothing.
"""

WARNINGS = """
Warning: messages saying "your parcel is on hold, pay {price}" are a scam. {carrier} never asks for money by text.
Got a text "hi mum, new number" today. It's a scam, don't answer, call your kid on the old number.
Scammers pretend to be {bank} and ask you to move money to a "safe account". Hang up.
Is this legit? "You won a {product}, claim here". It smells like phishing to me.
My grandma nearly sent {price} to a "soldier" she met online. Talk to your family about romance scams.
How to spot phishing: urgent tone, strange links, and a request for your password or card.
I was scammed: {price} for a flat that does not exist. What can I do now?
The police warn of fake job offers that ask for {price} up front.
Nobody doubles your {coin}. If someone promises that, it's fraud.
They called claiming that my computer has a virus and I let them talk for an hour. Fake tech support, block it.
Consumer advice: real lotteries don't ask winners for a fee.
I work at {bank}: we'd never ask for your PIN, so please report such mails.
A trial began in {city} against a gang that stole {sum} with fake invoices.
Our IT department: do not click on the mail "your mailbox is full", it is phishing.
The documentary about the inheritance letters is great, those gangs sent millions of them.
Someone is using my pictures to ask people for gift cards. It isn't me, please report the account.
"Send {price} and get double back" - how does anyone still fall for this?
"""

BUSINESS = """
Hi {name}, attached is invoice {code} for {month} as agreed, {price}, due on {date}. Best, {name2}
Could you approve the invoice from the printer's, {name}? It's {price} and within budget.
Hi {name}, can you transfer the rent for {month} as always? Thanks, {name2}
I paid you back for the pizza, {name}, {price}, check your account.
Is the {product} still available? I could pick it up on {day} and pay cash.
Would you take {price} for the {product}? I live near {street}.
The {product} is sold, sorry. I can give you the name of the shop.
You can see the flat on {day} at {time}. Deposit is two months, payable when the contract is signed.
We're hiring a {worker} in {city}, {price} per day, contract from {month}. Apply with your CV.
Job: part-time {worker}, weekends, experience welcome. Interviews on {day} at {street} {number}.
Your application as a {worker} has arrived. We'll invite you for an interview in {month}.
I'd like a loan for a car. Which bank has fair terms, and what should I look out for?
I put a little into {coin} in {year} and lost half of it. Lesson learned.
What is the difference between {coin} and an ordinary share?
My aunt left me her piano and {price}. I'm touched.
We won second prize in the raffle: a basket of {goods}!
Mum, my phone is broken again, so I'm writing from {name}'s. I'll be home by {time}.
Dad, this is my new number from the new contract, I told you yesterday. Dinner on {day}?
What should we get {name} as a leaving present? A gift card for the bookshop?
Our support team has solved your ticket {code}. Please tell us if it happens again.
Please change your password when you first sign in. You'll find help at {site}
To verify your account, click the link in the mail you asked for a minute ago.
Please send the signed form and a copy of your certificate to the office by {date}.
Fundraiser for the school roof: cake sale on {day}, all coins welcome.
The bank called about our mortgage, the appointment is on {date}.
"""

BLOCKS = (
    Block("fraud phishing", "fraud spam", PHISHING, "", 14, "mail"),
    Block("fraud parcels", "fraud spam", PARCEL, "", 16, "mail"),
    Block("fraud advance fee", "fraud spam", ADVANCE, "", 14, "mail"),
    Block("fraud romance", "fraud", ROMANCE, "spam", 14, "mail"),
    Block("fraud crypto", "fraud spam", CRYPTO, "", 14, "mail"),
    Block("fraud jobs", "fraud spam", JOBS, "", 14, "mail"),
    Block("fraud family", "fraud", FAMILY, "spam", 14, "mail"),
    Block("fraud support", "fraud spam", SUPPORT, "threat", 12, "mail"),
    Block("fraud prizes", "fraud spam", PRIZES, "", 14, "mail"),
    Block("fraud market", "fraud", MARKET, "spam", 14, "mail"),
    Block("real notices", "", REAL_NOTICES, "", 12, "mail"),
    Block("scam warnings", "", WARNINGS, "", 9, "serious"),
    Block("business", "", BUSINESS, "", 9, "mail"),
)
