"""Stage 7: whether the artifact may serve, and what to do so that it does.

Training never sees an installation: it judges the artifact's numbers as an installation will judge them again, and
says the commands. What it found stands in `register.json`.
"""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.gates import Gate, check, failures
from models.registry import ArtifactError, Manifest, load
from training.common import Run, TrainingError


def judged(folder: Path, waived: Mapping[str, str] | None = None) -> tuple[Manifest, list[Gate]]:
    """The artifact with its gates. What is `waived` is written into manifest and card first, each with its reason.

    Raises:
        TrainingError: it is missing or damaged, its gates are malformed, or there is no such gate to waive.
    """
    try:
        manifest = load(folder)
        found = check(manifest)
        if waived:
            from training.gating import stamped  # loads the runtime, which judging does without

            document = manifest.document
            named = {entry["name"] for entry in document.get("gates", ())}
            manifest = stamped(
                manifest, document["metrics"], [gate for gate in found if gate.name in named], waived
            )
            found = check(manifest)
        return manifest, found
    except ArtifactError as error:
        raise TrainingError(str(error)) from error


def line(gate: Gate) -> str:
    """A gate as one line for people."""
    word = "passed" if gate.passed else "waived" if gate.waived is not None else "FAILED"
    return f"{word}  {gate.name:<28}  {gate.sentence}"


def commands(manifest: Manifest) -> list[str]:
    """What to type on the installation. The third step, to promote it, is somebody else's, in the console."""
    return [
        f"moderation models add {shlex.quote(str(manifest.folder.resolve()))}",
        f"moderation models propose {manifest.name} {manifest.version} --by YOU@EXAMPLE.ORG",
    ]


def main(run: Run, arguments: Namespace) -> None:
    """Judge the exported artifact, print every gate, and say what is next.

    Raises:
        TrainingError: there is no artifact, or it fails a gate.
    """
    started = time.monotonic()
    run.record("export")
    manifest, gates = judged(arguments.out or run.path("artifact"), dict(arguments.waive))
    if manifest.document.get("training", {}).get("model_sha256") != run.record("train")["model_sha256"]:
        raise TrainingError(f"{manifest.folder} is not of this run: give the --out that export was given.")
    for gate in gates:
        print(line(gate))
    if failed := failures(gates):
        raise TrainingError(
            f"{manifest.name} {manifest.version} fails {len(failed)} of {len(gates)} gates and is not registered: "
            f"{', '.join(gate.name for gate in failed)}."
        )
    steps = commands(manifest)
    facts: dict[str, Any] = {"gates": [gate.document() for gate in gates], "commands": steps}
    run.finish("register", arguments, started, manifest_sha256=manifest.sha256, **facts)
    print(f"\n{manifest.name} {manifest.version} passes its {len(gates)} gates. On the installation:")
    for step in steps:
        print(f"  {step}")
    print(
        "Then somebody else promotes it, logged in, in the console under Models; it serves within seconds. To go"
    )
    print(f"back: moderation models rollback {manifest.name} --by YOU@EXAMPLE.ORG")
