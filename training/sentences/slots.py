"""Names, times, amounts and addresses that vary a text and say nothing. All hosts are under reserved domains."""

from __future__ import annotations

from training.sentences.groups import GROUP_SLOTS

NAMES = (
    "Anna", "Ben", "Carla", "Daniel", "Eva", "Femi", "Grace", "Hassan", "Ines", "Jamal", "Kim", "Leyla",
    "Marek", "Nadia", "Omar", "Paula", "Quentin", "Rosa", "Sven", "Tariq", "Uma", "Viktor", "Wendy",
    "Yusuf", "Zoe", "Priya", "Mei", "Dave", "Karen", "Mike", "Olu", "Chloe",
)  # fmt: skip
URLS = (
    "http://parcel-help.example/pay", "https://secure-login.example", "http://bit.example/3xQ",
    "www.claim-now.example", "https://account-verify.example/id", "http://refunds.example/r7",
    "https://t.example/gift", "http://wallet.example", "https://news.example/offer",
    "www.shop-sale.example", "https://track.example/81", "http://win.example/prize",
)  # fmt: skip
REAL_URLS = (
    "https://shop.example", "https://docs.example/guide", "https://city.example/pool",
    "https://club.example", "https://bank.example/help", "https://post.example",
    "https://news.example/today",
)  # fmt: skip

SLOTS = {
    **GROUP_SLOTS,
    "name": NAMES,
    "url": URLS,
    "site": REAL_URLS,
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": ("January", "March", "April", "May", "June", "August", "September", "November", "December"),
    "date": ("3 March", "12/05", "the 21st", "30 June", "1 September", "14 November", "2 May"),
    "year": ("1998", "2004", "2011", "2017", "2019", "2022", "2024"),
    "time": ("6 pm", "noon", "8:30", "19:00", "midnight", "10am", "4 o'clock", "quarter past nine"),
    "number": ("3", "4", "7", "12", "15", "18", "23", "40", "112"),
    "age": ("28", "31", "35", "39", "42", "47"),
    "code": ("482913", "7731", "904-112", "55 02 18", "X7K-22Q", "210984", "GB-4471"),
    "phone": ("0900 555 0142", "+44 7700 900123", "555-0188", "07700 900 461", "+1 202 555 0119"),
    "price": ("£1.99", "$2.50", "€35", "£250", "$480", "€1,200", "$3,000", "£79.90"),
    "sum": (
        "$4,500,000", "€850,000", "£2.3 million", "10.5 million dollars", "USD 750,000", "€50,000",
        "$12,000",
    ),
    "street": ("Elm Road", "Mill Lane", "Harbour Street", "Station Road", "Park Avenue", "Church Street"),
    "worker": (
        "nurse", "teacher", "waiter", "driver", "plumber", "clerk", "manager", "barista", "guard",
        "secretary",
    ),
    "bank": ("Northbank", "Harbour Bank", "First Valley", "your bank", "Unity Credit", "Swift Savings"),
    "carrier": (
        "ParcelNow", "the post office", "Red Van Express", "QuickShip", "our courier", "Postal Service",
    ),
    "service": ("Streamly", "CloudBox", "PayQuick", "MailHub", "the tax office", "ShopAll", "PhotoKeep"),
    "coin": ("BTC", "Bitcoin", "ETH", "USDT", "crypto"),
    "product": (
        "iPhone", "laptop", "gift card", "washing machine", "PlayStation", "e-bike", "espresso machine",
    ),
    "goods": (
        "shoes", "winter jackets", "garden furniture", "coffee", "bedding", "toys", "books",
        "headphones",
    ),
    "dish": ("lentil soup", "lasagne", "a curry", "apple pie", "fried rice", "pancakes", "tomato salad"),
    "pet": ("cat", "dog", "rabbit", "parrot", "hamster", "tortoise"),
    "sport": ("football", "tennis", "climbing", "rowing", "handball", "cricket", "judo"),
    "city": ("Leeds", "Lisbon", "Nairobi", "Osaka", "Chicago", "Prague", "Accra", "Lima", "Turin"),
    "show": ("The Long Winter", "Harbour Lights", "Night Shift", "Kingdom of Salt", "Case Closed"),
}  # fmt: skip
