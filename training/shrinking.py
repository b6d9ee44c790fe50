"""Convolutional networks made smaller: all of one in 8 bits, or its weights alone in 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SMALL = 1000
"""Numbers in a tensor up to which it is left in 32 bits: biases weigh nothing."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Prepared pictures, one at a time, as onnxruntime's quantiser wants them."""

    def __init__(self, prepared: Iterable[NDArray[np.float32]]) -> None:
        self._left: Iterator[NDArray[np.float32]] = iter(prepared)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        for one in self._left:
            return {"pictures": one[None]}
        return None


def quantise(source: Path, target: Path, prepared: Iterable[NDArray[np.float32]]) -> None:
    """Static int8, per channel, weights kept to seven bits, calibrated on prepared pictures (side, side, 3).

    Seven, because processors without VNNI add two products of eight bits in sixteen, which overflows; so
    the artifact scores alike on both kinds. A last dense layer stays as it is: it decides the logit.
    """
    readied = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(readied), skip_symbolic_shape=True)
    quantize_static(
        str(readied),
        str(target),
        _Reader(prepared),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=["Conv", "Add", "MaxPool", "AveragePool"],
    )
    readied.unlink()


def halve(source: Path, target: Path) -> None:
    """Store the weights in 16 bits. The runtime widens them once, when it loads the file."""
    model = onnx.load(source)
    kept, casts = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > SMALL:
            stored = numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_16")
            casts.append(helper.make_node("Cast", [stored.name], [weight.name], to=TensorProto.FLOAT))
            kept.append(stored)
        else:
            kept.append(weight)
    _write(model, kept, casts, target)


def eighth(source: Path, target: Path) -> None:
    """Store the kernels in 8 bits, with a step per output channel; widened likewise, computed with in 32 bits."""
    model = onnx.load(source)
    kept: list[TensorProto] = []
    nodes: list[NodeProto] = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size <= SMALL or values.ndim != 4:
            kept.append(weight)
            continue
        step = np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True), 1e-12) / 127
        stored, steps, wide = (f"{weight.name}_{part}" for part in ("8", "step", "wide"))
        kept.append(numpy_helper.from_array(np.round(values / step).astype(np.int8), stored))
        kept.append(numpy_helper.from_array(step.astype(np.float32), steps))
        nodes.append(helper.make_node("Cast", [stored], [wide], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [wide, steps], [weight.name]))
    _write(model, kept, nodes, target)


def _write(
    model: ModelProto, constants: Sequence[TensorProto], first: Sequence[NodeProto], target: Path
) -> None:
    nodes = [*first, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    onnx.save(model, target)
