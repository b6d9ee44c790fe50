"""The card of the combined image classifier, written from its manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS: Mapping[str, str] = {
    "photo": "photographs",
    "art": "drawings, renderings and patterns",
    "astro": "pictures of the sky",
}
ROWS: Mapping[str, str] = {
    "combined": "**the combination**",
    "shipped": "the combination as it ships, on what it was fitted on too",
    "open_nsfw": "open_nsfw alone, as it is",
    "nsfwjs": "nsfwjs alone, as it is",
    "with_sexy": "the combination, if `Sexy` counted as a yes",
}

TEMPLATE = """\
# {name} {version}

**What it is.** Two networks, asked together:
| network | what it is | its yes | from |
|---|---|---|---|
| open_nsfw | a thin ResNet-50 (Mahadeokar and Pesavento, Yahoo 2016) | `nsfw` | `{open_package}` {open_version} |
| nsfwjs | a MobileNetV2: Drawing, Hentai, Neutral, Porn, Sexy | `Porn`, `Hentai` | `{js_package}` {js_version} |

`Sexy`, which its makers describe as sexually explicit but not pornographic, is not counted as a yes: the last
row of the tables says what that would cost.

**How they are combined.** Each network's log-odds of its yes are moved ({shifts}), bounded to {bound:g} either
way, and averaged (a logarithmic pool, Genest and Zidek 1986). Where the networks disagree the result lies in
the middle, which is where people are asked; only where both are sure does it come near the ends. One network
alone, sure of a yes (0.94 of its own scale and up) against another that is as sure of a no, takes a picture to
people and no further.

**What was calibrated, and on what.** On benign pictures alone: a network by which more than 1 in 100 of them
are more likely yes than no is moved down until it is 1 in 100; never up. Slopes and weights are not fitted:
without positive pictures they could only buy quiet with recall that nobody sees. So a probability here is
honest about false alarms on such pictures, and it is **no** share of true positives: certify on your own
audited labels before anything acts on a score alone.

**What it says.** One probability, for the policy's category `sexual`.

**What it does not say.** Nothing about violence, gore, weapons, self-harm, nor about the age of anybody. Child
sexual abuse material is not its business: known material is found by hash lists from the bodies that keep them,
and everything suspected goes to people and to the authorities.

**Recall was not measured.** That would take imagery which this project never seeks, makes or stores. What is
known of it is what the networks' authors and users have published; an operator who may lawfully do so should
measure it on their own platform's decisions.

## False alarms, measured here
On {pictures} distinct benign pictures that packages ship, through the decoder and over the frames that the
service scores. Each half was scored with the numbers fitted on the other half; what ships was fitted on both.
The thresholds are those of the default policy: people look from 0.35, limited from 0.80, removed from 0.97. In
brackets 95 % intervals (Wilson 1927) of the share.

{tables}

Half of the scores of photographs lie below {median:.3f}, 95 % below {high:.3f}, 99 % below {higher:.3f}.

The pictures are landscapes, textures, desktop backgrounds, science pictures, demonstration pictures of web
packages and few people: **no sample of what any platform sees**, and thin on skin, beaches, sport and medicine,
where both networks are known to be alarmed. nsfwjs is alarmed by close-ups of skin-coloured things (fruit,
hands, flowers), open_nsfw by some drawings on plain ground. Of photographs and drawings of people in swimwear,
of art with nudes and of comics there are hardly any here, and nsfwjs has a class of its own, Hentai, for drawn
pornography: expect more false alarms on them.

**Input.** open_nsfw: scaled to 256 x 256 bilinearly without keeping its shape, middle 224 x 224, through JPEG
at quality 75 as in training, blue-green-red less (104, 117, 123). nsfwjs: scaled to 224 x 224 bilinearly,
corners on corners, from 0 to 1.

**Precision.** open_nsfw in 16 bits moved probabilities of harmless pictures by at most 0.002, in 8 bits by up
to 0.2, so 16 bits ship. nsfwjs is computed in 32 bits from the package's own 8-bit weights: within 1e-4 of
TensorFlow.js.

**Golden vectors** are synthetic shapes, made by `models/preparation.py`; each network is checked by itself.

**Licence.** open_nsfw: BSD-2-Clause, Copyright (c) 2016, Yahoo Inc. (`LICENSE-open_nsfw.txt`); the package's
conversion Apache-2.0 (`LICENSE-open_nsfw-package.txt`, `NOTICE-open_nsfw-package.txt`). nsfwjs: MIT, Copyright (c)
2019 Infinite Red, Inc. (`LICENSE-nsfwjs.txt`). Both are modified: converted, the softmax removed; the weights of
open_nsfw are made smaller.
"""


def card(manifest: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a manifest's document."""
    metrics, source = manifest["metrics"], manifest["source"]
    kinds = metrics["kinds"]
    quantiles = kinds["photo"]["quantiles"]
    return TEMPLATE.format(
        name=manifest["name"],
        version=manifest["version"],
        open_package=source["open_nsfw"]["package"],
        open_version=source["open_nsfw"]["version"],
        js_package=source["nsfwjs"]["package"],
        js_version=source["nsfwjs"]["version"],
        shifts=", ".join(f"{name} by {shift:g}" for name, shift in metrics["shifts"].items()),
        bound=metrics["bound"],
        pictures=sum(entry["pictures"] for entry in kinds.values()),
        tables="\n\n".join(_table(kind, kinds[kind]) for kind in KINDS if kind in kinds),
        median=quantiles["0.5"],
        high=quantiles["0.95"],
        higher=quantiles["0.99"],
    )


def _table(kind: str, entry: Mapping[str, Any]) -> str:
    thresholds = list(entry["combined"])
    lines = [
        f"**{entry['pictures']} {KINDS[kind]}**:",
        "| | " + " | ".join(f"p >= {threshold}" for threshold in thresholds) + " |",
        "|---|" + "---|" * len(thresholds),
    ]
    for row, title in ROWS.items():
        cells = [entry[row][threshold] for threshold in thresholds]
        said = " | ".join(f"{c['count']} ({c['low']:.1%} to {c['high']:.1%})" for c in cells)
        lines.append(f"| {title} | {said} |")
    return "\n".join(lines)
