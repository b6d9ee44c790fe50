"""From torch to ONNX, and from 32 bits to 8."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.train import Heads

OPSET = 17


def export_fp32(model: Heads, path: Path) -> None:
    """Write the model as one ONNX file: int64 ids and mask (n, length) to float32 logits (n, heads)."""
    ids = torch.tensor([[101, 2023, 2003, 102], [101, 2023, 102, 0]])
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one whose graph quantises worse.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (ids, (ids != 0).long()),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "texts"}},
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def quantise_dynamic(source: Path, path: Path) -> None:
    """Weights and embeddings to int8, per channel; activations are scaled per call, by their largest value."""
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(
        str(prepared), str(path), per_channel=True, weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
    )  # fmt: skip
    prepared.unlink()
