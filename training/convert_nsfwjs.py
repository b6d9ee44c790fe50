"""nsfwjs MobileNetV2 as one ONNX file, from the npm package: no number of it is changed.

    npm pack nsfwjs@4.4.0
    python -m training.convert_nsfwjs --package nsfwjs-4.4.0.tgz --out nsfwjs.onnx [--reference FILE]

The package holds a Keras model as TensorFlow.js keeps it: its layers as a JavaScript literal, its weights as
eight bits with a smallest value and a step each. The ONNX file keeps those same bytes (2.8 MB) and widens them
once, when it is loaded; each batch normalisation is folded into the step and the smallest value of the
convolution before it. So the file is as small as an int8 one and computes in 32 bits what the package computes,
to rounding.

`--reference` is a JSON list of {"picture": arguments of models.preparation.synthetic, "probabilities": [five]} as
TensorFlow.js gave them; the largest difference is printed. `training/nsfwjs_reference.mjs` writes it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.preparation import UnitRgb, synthetic
from models.runtime import open_session

PACKAGE, PACKAGE_VERSION = "nsfwjs", "4.4.0"
FOLDER = "package/dist/models/mobilenet_v2"
SOURCE_SHA256 = {
    "model.min.js": "c32f104fd562b08cdff5ed69dfe1209643afa47e792fb12751d2949aa61a397a",
    "group1-shard1of1.min.js": "ef2e0a63f7d2c4960b37b024b669313f65d3c45cd59e9042636c55b39de53517",
}
CLASSES = ("Drawing", "Hentai", "Neutral", "Porn", "Sexy")  # dist/esm/nsfw_classes.js
PREPARATION = UnitRgb(side=224)
OPSET, IR = 17, 10
SIMPLE = {"Add": "Add", "AveragePooling2D": "GlobalAveragePool", "Flatten": "Flatten"}

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weight:
    """Eight-bit numbers that stand for `q * step + least`."""

    q: Bytes
    step: float
    least: float

    @property
    def value(self) -> Floats:
        return self.q.astype(np.float64) * self.step + self.least


def literal(script: str) -> dict[str, Any]:
    """The object that a bundled script exports: a JavaScript literal of names, numbers, strings and !0, !1.

    Raises:
        ValueError: it is not of that form.
    """
    start, end = script.index("a.exports=") + len("a.exports="), script.rindex("},{}]},{},[1])(1)});")
    text = re.sub(r"([{,])([A-Za-z_]\w*):", r'\1"\2":', script[start:end])
    text = re.sub(r"(?<![\w\"])!([01])", lambda found: "false" if found[1] == "1" else "true", text)
    text = re.sub(r"(?<=[:\[,-])(\.\d)", r"0\1", text)
    found: dict[str, Any] = json.loads(text)
    return found


def source(package: Path) -> tuple[list[dict[str, Any]], dict[str, Weight], str]:
    """Layers, weights by name, and the licence, from the package's archive.

    Raises:
        SystemExit: it is not the file that was measured.
    """
    with tarfile.open(package) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        scripts = {name: read(f"{FOLDER}/{name}") for name in SOURCE_SHA256}
        licence = read("package/LICENSE").decode()
    for name, expected in SOURCE_SHA256.items():
        if hashlib.sha256(scripts[name]).hexdigest() != expected:
            raise SystemExit(f"{name} in {package} is not the file of {PACKAGE} {PACKAGE_VERSION}.")
    model = literal(scripts["model.min.js"].decode())
    (encoded,) = re.findall(rb'\w\.exports="([A-Za-z0-9+/=]+)"', scripts["group1-shard1of1.min.js"])
    data, at, weights = np.frombuffer(base64.b64decode(encoded), np.uint8), 0, {}
    for one in model["weightsManifest"][0]["weights"]:
        size = int(np.prod(one["shape"]))
        scaled = one["quantization"]
        q = data[at : at + size].reshape(one["shape"])
        weights[one["name"]] = Weight(q, float(scaled["scale"]), float(scaled["min"]))
        at += size
    assert at == len(data)
    layers: list[dict[str, Any]] = model["modelTopology"]["model_config"]["config"]["layers"]
    return layers, weights, licence


@dataclass(slots=True)
class Graph:
    """An ONNX graph in the making: layers in the order of the package, each named after its Keras layer."""

    weights: Mapping[str, Weight]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)  # by layer the tensor that is its output
    padded: dict[str, str] = field(default_factory=dict)  # by tensor the one it is a padding of

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def widened(self, name: str, q: Bytes, step: Floats, least: Floats) -> str:
        """Eight-bit numbers times `step` plus `least`, both along the first axis; computed when it is loaded."""
        shape = (len(q), *(1,) * (q.ndim - 1))
        wide = self.node("Cast", [self.constant(f"{name}:q", q)], f"{name}:wide", to=TensorProto.FLOAT)
        factor = self.constant(f"{name}:step", step.astype(np.float32).reshape(shape))
        offset = self.constant(f"{name}:least", least.astype(np.float32).reshape(shape))
        scaled = self.node("Mul", [wide, factor], f"{name}:scaled")
        return self.node("Add", [scaled, offset], f"{name}:kernel")

    def convolution(self, layer: Mapping[str, Any], bn: Mapping[str, Any], given: str) -> str:
        """A convolution without a bias, and the normalisation after it as its scale and bias."""
        config, name = layer["config"], layer["name"]
        gamma, beta, mean, variance = (
            self.weights[f"{bn['name']}/{part}"].value
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma / np.sqrt(variance + bn["config"]["epsilon"])
        depthwise = layer["class_name"] == "DepthwiseConv2D"
        kernel = self.weights[f"{name}/{'depthwise_kernel' if depthwise else 'kernel'}"]
        # Height, width, in, out; of a depthwise one height, width, channel, 1.
        q = np.ascontiguousarray(kernel.q.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))
        weight = self.widened(name, q, factor * kernel.step, factor * kernel.least)
        bias = self.constant(f"{name}:bias", (beta - mean * factor).astype(np.float32))
        pads = [0, 0, 1, 1] if given in self.padded else [0] * 4
        if config["padding"] == "same":
            assert config["strides"] == [1, 1]
            pads = [q.shape[2] // 2] * 4
        return self.node(
            "Conv", [self.padded.get(given, given), weight, bias], f"{name}:out",
            strides=config["strides"], pads=pads, group=len(q) if depthwise else 1,
        )  # fmt: skip

    def dense(self, layer: Mapping[str, Any], given: str, output: str) -> str:
        name = layer["name"]
        kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"].value
        q = np.ascontiguousarray(kernel.q.T)
        one = np.ones(len(q))
        weight = self.widened(name, q, one * kernel.step, one * kernel.least)
        added = self.constant(f"{name}:bias", bias.astype(np.float32))
        return self.node("Gemm", [given, weight, added], output, transB=1)


def step(  # noqa: PLR0911 - one answer a kind of layer
    graph: Graph, layer: Mapping[str, Any], inputs: list[str], normalised: Mapping[str, Any] | None
) -> str:
    """One Keras layer as nodes of the graph; the tensor that is its output.

    Raises:
        SystemExit: there is no rule for a layer of its kind.
    """
    kind, name, config = layer["class_name"], layer["name"], layer["config"]
    if kind in SIMPLE:
        return graph.node(SIMPLE[kind], inputs, f"{name}:out")
    match kind:
        case "InputLayer":
            return graph.node("Transpose", ["pictures"], "planes", perm=[0, 3, 1, 2])
        case "ZeroPadding2D":
            assert config["padding"] == [[0, 1], [0, 1]]
            graph.padded[f"{name}:padded"] = inputs[0]
            return f"{name}:padded"
        case "Conv2D" | "DepthwiseConv2D":
            assert normalised is not None
            return graph.convolution(layer, normalised, inputs[0])
        case "BatchNormalization" | "Dropout":
            return inputs[0]
        case "ReLU":
            bounds = [
                graph.constant(f"{name}:{i}", np.array(v, np.float32)) for i, v in enumerate((0.0, 6.0))
            ]
            return graph.node("Clip", [inputs[0], *bounds], f"{name}:out")
        case "Dense":
            if config["activation"] == "softmax":  # left out: its input is what the service wants
                return graph.dense(layer, inputs[0], "logits")
            return graph.node("Relu", [graph.dense(layer, inputs[0], f"{name}:sum")], f"{name}:out")
    raise SystemExit(f"There is no rule for a layer of kind {kind}.")


def converted(layers: list[dict[str, Any]], weights: Mapping[str, Weight]) -> onnx.ModelProto:
    """`pictures` (n, 224, 224, 3), RGB in 0..1, to `logits` (n, 5): what the softmax is of."""
    graph = Graph(weights)
    normalised = {
        layer["inbound_nodes"][0][0][0]: layer for layer in layers if "BatchNorm" in layer["class_name"]
    }
    for layer in layers:
        name = layer["name"]
        inputs = [graph.said[one[0]] for one in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
        graph.said[name] = step(graph, layer, inputs, normalised.get(name))
    floats = TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "nsfwjs",
        [helper.make_tensor_value_info("pictures", floats, ["n", 224, 224, 3])],
        [helper.make_tensor_value_info("logits", floats, ["n", len(CLASSES)])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model


def compared(model: Path, reference: Path) -> float:
    """The largest difference between probabilities of the reference and of `model`."""
    session, worst = open_session(model, 2), 0.0
    for entry in json.loads(reference.read_text(encoding="utf-8")):
        prepared = PREPARATION(synthetic(**entry["picture"]))[None]
        logits = session.run(["logits"], {"pictures": prepared})[0][0].astype(np.float64)
        found = np.exp(logits - np.logaddexp.reduce(logits))
        worst = max(worst, float(np.abs(found - np.array(entry["probabilities"])).max()))
    return worst


def main() -> None:
    """Convert, and compare where a reference is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="the archive that `npm pack` wrote")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--reference", type=Path, help="what TensorFlow.js says of synthetic pictures")
    arguments = parser.parse_args()
    layers, weights, _ = source(arguments.package)
    onnx.save(converted(layers, weights), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")
    if arguments.reference is not None:
        print(f"largest difference to TensorFlow.js: {compared(arguments.out, arguments.reference):.1e}")


if __name__ == "__main__":
    main()
