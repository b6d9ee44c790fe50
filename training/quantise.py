"""From torch to ONNX, and from 32 bits to 8.

The stock dynamic quantisation scales a whole tensor of activations by its largest value, so that a text's
score depends on which texts share its batch, and a harsh one can blur its neighbours. `quantise_rows`
scales every token by its own largest value instead (as LLM.int8(), Dettmers et al. 2022, does): a score
depends on its text alone, and the rounding error is smaller too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

OPSET = 17
LARGE = 4096
"""Weights with at least this many numbers are quantised."""


def export_fp32(model: nn.Module, path: Path, output: str = "logits") -> None:
    """Write the model as one ONNX file: int64 ids and mask (n, length) to a float32 `output` (n, columns)."""
    ids = torch.tensor([[101, 2023, 2003, 102], [101, 2023, 102, 0]])
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but its graph is the one that quantises well.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (ids, (ids != 0).long()),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, output: {0: "texts"}},
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def quantise_rows(source: Path, path: Path) -> None:
    """Write `source` with weights in int8 per output column, and activations in uint8 per token."""
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    prepared.unlink()
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    weights = {
        name: w for name, w in weights.items() if w.dtype == np.float32 and w.ndim == 2 and w.size >= LARGE
    }
    scaled: dict[str, tuple[str, str]] = {}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            if node.input[0] not in scaled:
                scaled[node.input[0]] = _quantise_input(node.input[0], nodes)
            _replace_matmul(node, scaled[node.input[0]], weights[node.input[1]], model, nodes)
        elif node.op_type == "Gather" and node.input[0] in weights:
            _replace_gather(node, weights[node.input[0]], model, nodes)
        else:
            nodes.append(node)
    _constant(model, "rows/top", np.float32(127.0))
    _constant(model, "rows/least", np.float32(1e-6))
    _constant(model, "rows/one", np.float32(1.0))
    _constant(model, "rows/middle", np.uint8(128))
    _rebuild(model, nodes, weights)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _quantise_input(name: str, nodes: list[NodeProto]) -> tuple[str, str]:
    """Nodes that turn activations (..., k) into uint8 around 128; names of those and of their scales (..., 1)."""
    at = f"{name}/rows"
    nodes += [
        helper.make_node("Abs", [name], [f"{at}/abs"]),
        helper.make_node("ReduceMax", [f"{at}/abs"], [f"{at}/max"], axes=[-1], keepdims=1),
        helper.make_node("Max", [f"{at}/max", "rows/least"], [f"{at}/safe"]),
        helper.make_node("Div", [f"{at}/safe", "rows/top"], [f"{at}/scale"]),
        helper.make_node("Div", [name, f"{at}/scale"], [f"{at}/even"]),
        helper.make_node("QuantizeLinear", [f"{at}/even", "rows/one", "rows/middle"], [f"{at}/uint8"]),
    ]
    return f"{at}/uint8", f"{at}/scale"


def _replace_matmul(
    node: NodeProto,
    rows: tuple[str, str],
    weight: NDArray[np.float32],
    model: ModelProto,
    nodes: list[NodeProto],
) -> None:
    """An integer product instead of `node`, scaled back by column inside it and by row after it."""
    at = f"{node.name}/rows"
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12).astype(np.float32) / 127
    _constant(model, f"{at}/weight", np.round(weight / scale).astype(np.int8))
    _constant(model, f"{at}/columns", scale)
    operands = [rows[0], f"{at}/weight", "rows/one", f"{at}/columns", "rows/middle"]
    nodes += [
        helper.make_node("MatMulIntegerToFloat", operands, [f"{at}/product"], domain="com.microsoft"),
        helper.make_node("Mul", [f"{at}/product", rows[1]], list(node.output)),
    ]


def _replace_gather(
    node: NodeProto, table: NDArray[np.float32], model: ModelProto, nodes: list[NodeProto]
) -> None:
    """Embeddings looked up as int8 rows, each with a scale of its own."""
    at = f"{node.name}/rows"
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / 127
    _constant(model, f"{at}/table", np.round(table / scale).astype(np.int8))
    _constant(model, f"{at}/scales", scale)
    nodes += [
        helper.make_node("Gather", [f"{at}/table", node.input[1]], [f"{at}/int8"], axis=0),
        helper.make_node("Gather", [f"{at}/scales", node.input[1]], [f"{at}/scale"], axis=0),
        helper.make_node("Cast", [f"{at}/int8"], [f"{at}/float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{at}/float", f"{at}/scale"], list(node.output)),
    ]


def _constant(model: ModelProto, name: str, value: NDArray[np.generic] | np.generic) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _rebuild(model: ModelProto, nodes: list[NodeProto], weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put the new nodes in, and drop the float weights that none of them reads any more."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [w for w in model.graph.initializer if w.name not in weights or w.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
