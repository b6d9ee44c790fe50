"""Try the service from outside: a set of mild posts, or a user's own files, through the public API.

This is a client like any other: it knows an address and a key and nothing of the service's insides.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

WAIT_SECONDS = 30
SEED = 7
STYLES = {"allow": "green", "limit": "yellow", "review": "cyan", "remove": "red"}

TEXTS = (
    ("holiday", "Lovely weather in Lisbon today, we walked along the river until sunset."),
    ("recipe", "The trick is to toast the rice before adding the stock. Works every time!"),
    ("disagreement", "I could not disagree more with this review, the second half of the film is its best."),
    ("rude", "You are an idiot and nobody wants to hear your stupid opinion."),
    ("masked", "what a load of cr*p, you absolute m*ron"),
    ("prize", "CONGRATULATIONS!!! You have WON a £1000 prize. Text CLAIM to 80082 now, T&C apply"),
    ("low", "I feel so empty lately, I do not know how to go on."),
    ("warning", "I know where you live and you will regret this."),
    ("quote", "He called me an idiot in front of everyone, and the moderators did nothing."),
    ("report", "Police say the two men were arrested on Friday after a fight outside the station."),
)


@dataclass(frozen=True, slots=True)
class Post:
    """Something to submit: a name to show and the parts of the item."""

    name: str
    external_id: str
    parts: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said, and how long it took."""

    name: str
    verdict: str
    why: str
    milliseconds: float
    accepted: bool


def run(url: str, api_key: str) -> int:
    """Submit the demonstration set and print what became of it. 0 if every item was answered."""
    tag = secrets.token_hex(4)
    posts = [Post(name, f"demo-{tag}-{name}", (_text(text),)) for name, text in TEXTS]
    posts += [Post(name, f"demo-{tag}-{name}", (_image(data),)) for name, data in pictures(SEED)]
    # The last of the pictures is cut short on purpose: its refusal is part of the demonstration.
    return _submit(url, api_key, posts, expected_refusals=1)


def submit(url: str, api_key: str, files: Sequence[Path]) -> int:
    """Submit files, each as one item: pictures by their content, everything else as UTF-8 text."""
    console = Console(stderr=True)
    posts = []
    for file in files:
        try:
            data = file.read_bytes()
        except OSError as error:
            console.print(f"{file} can't be read: {error.strerror}.", style="red", highlight=False)
            return 2
        # The same file is the same post: submitting it twice shows the first answer again.
        digest = hashlib.sha256(data + file.name.encode()).hexdigest()[:24]
        posts.append(Post(file.name, f"file-{digest}", (_part(data),)))
    return _submit(url, api_key, posts, expected_refusals=0)


def pictures(seed: int) -> Iterator[tuple[str, bytes]]:
    """Generated pictures (name, bytes): shapes, a gradient with transparency, an animation, a broken file."""
    dice = random.Random(seed)  # noqa: S311 - shapes, not secrets
    shapes = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(shapes)
    for _ in range(24):
        x, y, size = dice.randrange(600), dice.randrange(440), dice.randrange(20, 160)
        draw.ellipse((x, y, x + size, y + size), fill=tuple(dice.randrange(256) for _ in range(3)))
    yield "shapes.jpg", _encoded(shapes, "JPEG")
    fade = Image.linear_gradient("L").resize((320, 320))
    yield "fade.png", _encoded(Image.merge("RGBA", (fade, fade.rotate(90), fade.rotate(180), fade)), "PNG")
    frames = [shapes.rotate(angle).resize((160, 120)) for angle in range(0, 360, 45)]
    loop = io.BytesIO()
    frames[0].save(loop, "GIF", save_all=True, append_images=frames[1:])
    yield "loop.gif", loop.getvalue()
    yield "broken.png", _encoded(shapes, "PNG")[:16]


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _part(data: bytes) -> dict[str, Any]:
    try:
        return _text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _image(data)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "name": "text", "text": text}


def _image(data: bytes) -> dict[str, Any]:
    return {"type": "image", "name": "image", "data": base64.b64encode(data).decode("ascii")}


def _submit(url: str, api_key: str, posts: Sequence[Post], expected_refusals: int) -> int:
    console = Console()
    columns = (TextColumn("Submitting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        with (
            httpx.Client(base_url=url, headers=headers, timeout=WAIT_SECONDS + 10, trust_env=False) as client,
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ):
            answers = [_ask(client, post) for post in progress.track(posts)]
    except httpx.TransportError:
        Console(stderr=True).print(f"{url} does not answer. Is `moderation up` running?", style="red")
        return 1
    console.print(_table(answers))
    return 0 if sum(not answer.accepted for answer in answers) <= expected_refusals else 1


def _ask(client: httpx.Client, post: Post) -> Answer:
    body = {"external_id": post.external_id, "author": "demo-author", "kind": "post", "parts": post.parts}
    started = time.perf_counter()
    response = client.post("/v1/items", params={"wait": WAIT_SECONDS}, json=body)
    milliseconds = 1000 * (time.perf_counter() - started)
    said: dict[str, Any] = response.json()
    if response.is_success:
        why = " ".join(said.get("reasons", ["No verdict yet; ask again at " + said["status_url"] + "."]))
        return Answer(post.name, said.get("verdict", said["status"]), why, milliseconds, accepted=True)
    return Answer(post.name, f"refused {response.status_code}", said["detail"], milliseconds, accepted=False)


def _table(answers: Sequence[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("item", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why")
    table.add_column("ms", justify="right")
    for answer in answers:
        # Plain text, never markup: a file name or a reason may hold square brackets.
        verdict = Text(answer.verdict, style=STYLES.get(answer.verdict, "magenta"))
        table.add_row(Text(answer.name), verdict, Text(answer.why), f"{answer.milliseconds:.0f}")
    return table
