"""The model card (Mitchell et al. 2019), written from the manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SOURCES: Mapping[str, tuple[str, str]] = {
    "cad": ("Contextual Abuse Dataset (Vidgen et al. 2021)", "CC BY 4.0"),
    "civil": ("Civil Comments (Borkan et al. 2019)", "CC0"),
    "context_toxicity": ("Pavlopoulos et al. 2020", "Apache-2.0"),
    "contrast": ("our own texts from patterns, in pairs of harmful and harmless", "Apache-2.0"),
    "davidson": ("Davidson et al. 2017", "MIT"),
    "dynahate": ("Vidgen et al. 2021, dev part", "CC BY 4.0"),
    "edos": ("SemEval-2023 task 10", "CC0"),
    "hatemoji": ("HatemojiBuild (Kirk et al. 2022)", "CC BY 4.0"),
    "jigsaw": ("Jigsaw / Wikipedia comments", "CC0 labels, **CC BY-SA 3.0** text"),
    "jigsaw_bin": ("Jigsaw / Wikipedia comments, part", "CC0 labels, **CC BY-SA 3.0** text"),
    "jigsaw_ml": ("Jigsaw / Wikipedia comments, part", "CC0 labels, **CC BY-SA 3.0** text"),
    "lines": ("labelled texts that the trainer brought", "as the trainer says"),
    "own": ("labels of the installation's own people", "not shipped"),
    "paradetox": ("Logacheva et al. 2022", "CC0"),
    "reddit27": ("Low et al. 2020", "PDDL / CC BY"),
    "sbic": ("Social Bias Frames, dev part", "CC BY 4.0"),
    "smishing": ("Mendeley f45bkkt8pr", "CC BY 4.0"),
    "sms_spam": ("UCI SMS Spam Collection", "CC BY 4.0"),
    "spamassassin": ("SpamAssassin public corpus", "PDDL"),
    "stormfront": ("de Gibert et al. 2018", "**CC BY-SA 3.0**"),
    "toxic_spans": ("SemEval-2021 task 5", "CC0"),
    "toxigen": ("ToxiGen, human-annotated part", "MIT"),
}

TEMPLATE = """\
# {name} {version}

English text to calibrated probabilities of
{categories}.
A sentence encoder (all-MiniLM-L6-v2, 22 million parameters) fine-tuned with one sigmoid head per category,
{precision}, and beside it a linear model on hashed n-grams of characters and words; a weighted sum of their
logits is calibrated. The n-grams count {ngrams}. This card is generated from the manifest; its numbers are
measured, with 95 % bootstrap intervals in brackets.

## What it is for
Sorting traffic for a moderation service that sends what is uncertain to people. A probability is
calibrated on the held-out mix below, whose share of harm is far above that of ordinary traffic: calibrate
and certify on your own audited labels before anything acts on a score alone.

## Held-out rows
{held_out_rows} rows from the sources' own dev parts, or by hash where a source has none; half of what was
held out, the other half fitted the calibration. Duplicates, after dropping case, space, punctuation and
digits, were removed before splitting, and training rows that nearly equal a held-out one after it. Some labels
of thin heads are our own, by one reader (training/annotations.md). Rows of sources that published only
positives are left out per head.

{held_out}

AP depends on the share of positives. Heads under about 100 positives carry no claim beyond their counts.

## By source
{by_source}

## Sources it never saw
{unseen}

## Harmless sentences about groups of people
Published identity templates (Dixon et al. 2018): {templates} harmless ones, counted as false positives from
probability 0.5. A short praise of a person that names their group is among the hardest inputs for a model
like this; let no score remove such a text by itself.

{identity}
{hatecheck}
## Suites of our own
{suites}

## Other languages
{languages}

## Gates
{gates}

## Numbers and precision
- ONNX fp32 against torch: at most {onnx:.1g} in the logits.
- int8, weights per column and activations per token. AUC lost per category, of {allowed} allowed:
  {losses}. Gate {gate}. Calibration was fitted again afterwards.
- A text alone against the same text in a batch of 32, {single_rows} texts: probabilities differ by at most
  {single:.1g}.

## Training
{rows} texts, {seen} drawn ({epochs} epoch at most), seed {seed}, windows of {window} tokens. Partial labels are
masked; some missing labels count as a no with a small weight (see `data.assumed_no` in the manifest), never
in calibration or evaluation. The mapping from dataset labels to categories is `data.mapping`.{resumed}

| source | origin | licence | training | held out |
|---|---|---|---|---|
{sources}

Two sources are share-alike: the Wikipedia comments and the Stormfront posts. The weights are offered under
Apache-2.0, as is the base model, with these sources named. None of the published texts is shipped.

## Limits
- English only. What other languages get is stated above and not claimed.
- Negation, counter-speech, quotation and reclaimed words are where models of this kind fail most. Pairs of
  our own were trained against it; what is left of it is in the functions above that score lowest.
- Hate that hides in emoji and hate written to fool models is ranked far worse than plain hate: compare the
  rows of `hatemoji`, `edos` and `dynahate` above.
- Labels are partial and from many guidelines: "hate" in one source is "offensive" in another, and a head's
  probability is a blend of them.
- `threat`, `sexual`, `self_harm` and `fraud` rest on few positive training texts, many of them our own: {thin}.
- `spam` was learned from e-mail and text messages and `fraud` from those and from our own patterns. Spam does not
  transfer well between channels.
- Not covered: illegal goods, the sexualisation of minors, violence that is no threat, truth.
- One harsh sentence among calm ones is diluted by its window. Scoring sentence by sentence would cost several
  times as much.
- Long texts are scored as the worst of up to {windows} windows; beyond that, windows are spaced out and
  text between them goes unread.
"""


PARTS = (
    ("harmful", "all harmful"),
    ("harmless", "all harmless"),
    ("non_hateful", "all non-hateful"),
    ("overall", "all"),
)
"""Parts of the functional report, and what the card calls them."""
LANGUAGE_HEADS = ("toxicity", "hate")

UNSEEN_NOTE = """\
At most 4,000 rows a source with all positives among them, so AUC only. Texts that other sources quote were
taken out of this part and count as seen; a source that others quote is unseen as texts, not as a domain."""

HATECHECK_SECTION = """
## HateCheck
Röttger et al. 2021, never trained on. Right is a probability for `hate` on the right side of 0.5; AUC over all
cases {auc}.

{table}
"""


def card(manifest: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a manifest's document."""
    metrics, data, training = manifest["metrics"], manifest["data"], manifest["training"]
    window, gate = manifest["input"], metrics["quantisation_gate"]
    # JSON keeps no order of keys worth relying on: the card follows the heads.
    held_out = {head: metrics["held_out"][head] for head in window["heads"]}
    return TEMPLATE.format(
        name=manifest["name"],
        version=manifest["version"],
        categories=", ".join(f"`{output['category']}`" for output in manifest["outputs"]),
        precision=metrics["precision"],
        held_out_rows=_thousands(sum(int(s["rows"]) for s in data["counts"].get("evaluate", {}).values())),
        held_out=_held_out(held_out),
        by_source=_by_source(held_out),
        unseen=_unseen({head: metrics["unseen"][head] for head in held_out} if "unseen" in metrics else {}),
        hatecheck=_hatecheck(metrics.get("hatecheck")),
        ngrams=_ngrams(window.get("ngram_weights", {})),
        suites=_suites(metrics.get("suites", {})),
        languages=_languages(metrics.get("languages", {})),
        gates=_gates(manifest.get("gates", ()), manifest.get("waived", {})),
        templates=metrics.get("identity_templates", {}).get("harmless", "no"),
        identity=_identity(metrics.get("identity_templates", {})),
        onnx=metrics["onnx_against_torch"]["max_abs_logit"],
        allowed=gate["allowed_loss"],
        losses=", ".join(f"{head} {max(0.0, gate['heads'][head]['loss'] or 0.0)}" for head in held_out),
        gate="passed" if gate["passed"] else "failed, so fp32 ships",
        single_rows=metrics["batch_against_single"]["texts"],
        single=metrics["batch_against_single"]["max"],
        rows=_thousands(training["rows"]),
        seen=_thousands(training["texts_seen"]),
        epochs=training["arguments"]["epochs"],
        seed=training["arguments"]["seed"],
        window=window["window"],
        windows=window["windows"],
        sources=_sources(data["counts"]),
        thin=_thin(data["counts"]),
        resumed=_resumed(training["log"]),
    )


def _thousands(number: int) -> str:
    return f"{number:,}"


def _rate(entry: list[float | None] | None) -> str:
    if not entry or entry[0] is None:
        return "-"
    if entry[1] is None or entry[2] is None:
        return f"{entry[0]:.3f}"
    return f"{entry[0]:.3f} ({entry[1]:.3f}-{entry[2]:.3f})"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _held_out(report: Mapping[str, Any]) -> str:
    names = ("auc", "ap", "ece", "brier")
    rows = [
        (head, f"{entry['positives']} / {entry['labelled']}", *(_rate(entry.get(name)) for name in names))
        for head, entry in report.items()
    ]
    return _table(("category", "positives / labelled", "AUC", "AP", "ECE, equal mass", "Brier"), rows)


def _by_source(report: Mapping[str, Any], ranks: tuple[str, ...] = ("auc", "ap")) -> str:
    rows = [
        (head, source, f"{found['positives']} / {found['labelled']}", *(_rate(found.get(r)) for r in ranks))
        for head, entry in report.items()
        for source, found in entry["sources"].items()
        if "auc" in found
    ]
    return _table(("category", "source", "positives / labelled", *(r.upper() for r in ranks)), rows)


def _unseen(report: Mapping[str, Any]) -> str:
    if not report:
        return "None: every source was trained on. How well this recipe transfers is measured apart."
    return f"{_by_source(report, ranks=('auc',))}\n\n{UNSEEN_NOTE}"


def _hatecheck(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return ""
    found = {**report["functionalities"], "all": report}
    rows = [(name, str(one["cases"]), f"{100 * one['right']:.0f} %") for name, one in found.items()]
    table = _table(("functionality", "cases", "right"), rows)
    return HATECHECK_SECTION.format(auc=report["auc"], table=table)


def _ngrams(weights: Mapping[str, float]) -> str:
    """Heads by the weight that they share."""
    shared: dict[float, list[str]] = {}
    for head, weight in weights.items():
        shared.setdefault(weight, []).append(head)
    parts = [f"{weight:.2g} for {', '.join(sorted(heads))}" for weight, heads in sorted(shared.items())]
    return "; ".join(parts) or "nothing"


def _suites(found: Mapping[str, Any]) -> str:
    """The functional suite from its lowest function up, and what tricks cost."""
    if not found:
        return "Not measured."
    functional, evasion, clean = found["functional"], found["evasion"], found["clean"]
    functions = sorted(functional["functions"].items(), key=lambda item: (item[1]["accuracy"], item[0]))
    named = (*functions, *((name, functional[part]) for part, name in PARTS))
    rows = [
        (name, f"{one['right']} / {one['cases']}", f"{100 * one['accuracy']:.0f} %") for name, one in named
    ]
    plain, lost = evasion["without_views"], evasion["with_views"]["lost"]
    return (
        _table(("function", "right", "share"), rows)
        + f"\n\nSpelling tricks on {evasion['positives']} of the harmful cases: recall falls from "
        f"{plain['plain']['recall']:.2f} by {plain['lost']:.2f} on average, and with the\nviews scored beside "
        f"a text by {lost:.2f}. Of {_thousands(clean['sentences'])} clean sentences in several scripts "
        f"{clean['by_view_alone']} are flagged by a view\nalone."
    )


def _languages(found: Mapping[str, Any]) -> str:
    if not found:
        return "None was measured; none is claimed."
    rows = [
        (
            language,
            str(entry["rows"]),
            *(
                f"{entry[head]['auc']:.3f}" if entry.get(head, {}).get("auc") else "-"
                for head in LANGUAGE_HEADS
            ),
        )
        for language, entry in sorted(found.items())
    ]
    return "Measured and not claimed, AUC:\n\n" + _table(("language", "rows", *LANGUAGE_HEADS), rows)


def _gates(found: Sequence[Mapping[str, Any]], waived: Mapping[str, str]) -> str:
    """What was asked and not shown, and why it serves nevertheless if it does."""
    if not found:
        return "None was judged."
    failed = [gate for gate in found if not gate["passed"]]
    lines = [f"{len(found) - len(failed)} of {len(found)} passed; the manifest holds each with its number."]
    for gate in failed:
        reason = waived.get(gate["name"])
        lines.append(f"- {gate['sentence']}" + (f" Waived: {reason}" if reason else ""))
    return "\n".join(lines)


def _identity(report: Mapping[str, Any]) -> str:
    if not report:
        return "Not measured: the templates were not there."
    rows = []
    for head, entry in sorted(report["heads"].items(), key=lambda item: -item[1]["false_positive_rate"]):
        worst = sorted(entry["worst_terms"].items(), key=lambda item: (-item[1], item[0]))[:4]
        rows.append(
            (
                head,
                f"{100 * entry['false_positive_rate']:.1f} %",
                f"{entry['terms_over_10_percent']} of {entry['terms']}",
                ", ".join(f"{term} {100 * rate:.0f} %" for term, rate in worst if rate) or "-",
            )
        )
    return _table(("category", "false positives", "terms over 10 %", "worst terms"), rows)


def _sources(counts: Mapping[str, Any]) -> str:
    parts = ("calibrate", "evaluate", "unseen")
    rows = []
    for source, (origin, licence) in SOURCES.items():
        size = {part: int(by.get(source, {}).get("rows", 0)) for part, by in counts.items()}
        held = sum(size.get(part, 0) for part in parts)
        if held or size.get("train"):
            rows.append(f"| {source} | {origin} | {licence} | {size.get('train', 0):,} | {held:,} |")
    return "\n".join(rows)


def _thin(counts: Mapping[str, Any]) -> str:
    found = []
    for head in ("threat", "sexual", "self_harm", "fraud"):
        positives = sum(
            int(source.get(head, "0/0").split("/")[0]) for source in counts.get("train", {}).values()
        )
        found.append(f"{positives} ({head})")
    return ", ".join(found)


def _resumed(log: Sequence[Mapping[str, float]]) -> str:
    steps = [f"{entry['resumed_after']:.0f}" for entry in log if "resumed_after" in entry]
    if not steps:
        return ""
    return (
        f"\nThe run was broken off and resumed after step {' and '.join(steps)}, with a new plan of what is left:\n"
        "its last arguments alone don't reproduce it exactly."
    )
