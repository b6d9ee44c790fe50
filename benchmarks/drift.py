"""How soon a certificate ends once traffic drifts, and how rarely without: `python -m benchmarks.drift [--runs N]`.

First the mathematics alone, on simulated scores: false alarms in ten million decisions and more whose share of bad
posts swings by day and night, how many decisions it takes to notice changes of several strengths, and how many
checks to notice that a promise is not kept. Then a running service: posts come in at a steady rate, from one moment
on a part of them is of another kind, and the clock runs from that moment to the certificate being void.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from math import pi, sin
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from moderation.domain.drift import MeanWatch, RiskWatch, ShareWatch, reference
from moderation.domain.policy import Policy
from moderation.domain.promises import CertificateRules, Side
from moderation.governance import watching
from moderation.governance.policies import PolicyCache
from moderation.storage.database import Databases, transaction
from tests import drifting, seeding, traffic
from tests.service import Service, running

DAY = 86_400
LOOK = 5  # seconds
TOLERANCE = CertificateRules().tolerance
PREVALENCE = 0.08
A_DAY = 10_000_000
CATEGORIES = ("harassment", "hate", "threat", "sexual", "self_harm", "violence", "fraud", "spam")
PARTS = ("simulated", "cost", "service")
Scores = Callable[[np.random.Generator, int, float], NDArray[np.float64]]
"""Scores of so many decisions at a time, in seconds since it began."""


def main() -> int:
    """Measure and print as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=50_000_000, help="simulated without a drift")
    parser.add_argument("--repeats", type=int, default=40, help="of each simulated drift")
    parser.add_argument(
        "--runs", type=int, default=7, help="of each drift of the running service; 0 for none"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="posts a second to the running service")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if "simulated" in options.parts:
        _false_alarms(options.items)
        _detections(options.repeats)
        _checks(options.repeats * 5)
    if {"service", "cost"} & set(options.parts):
        with (
            tempfile.TemporaryDirectory(prefix="drift-") as directory,
            running(Path(directory) / "var") as service,
        ):
            drifting.publish(service)
            if "cost" in options.parts:
                _cost(service)
            if "service" in options.parts:
                _service(service, options.runs, options.rate)
    return 0


class Watches:
    """The watches of one certificate of letting pass, as `governance.watching` has them."""

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.reference = reference(scores)
        self.shares = ShareWatch(self.reference.shares, TOLERANCE)
        self.mean = MeanWatch(self.reference.mean, TOLERANCE)
        self.restart()

    def restart(self) -> None:
        self.states = self.shares.begin(), self.mean.begin()

    def update(self, found: NDArray[np.float64]) -> bool:
        """After one look; whether it is an alarm."""
        scores, mean = self.states
        self.states = (
            self.shares.update(scores, self.reference.counts(found)),
            self.mean.update(mean, found),
        )
        return self.shares.alarm(self.states[0]) or self.mean.alarm(self.states[1])

    @property
    def height(self) -> float:
        """How near it came: 1 is an alarm."""
        return max(self.shares.height(self.states[0]), self.mean.height(self.states[1]))


def swinging(swing: float) -> Scores:
    """Traffic whose share of bad posts swings by so much by day and night."""
    return lambda chance, count, seconds: traffic.scores(
        chance, count, PREVALENCE * (1 + swing * sin(2 * pi * seconds / DAY))
    )


def _false_alarms(items: int) -> None:
    print(f"\nWithout a drift, tolerance {TOLERANCE}, decisions in looks of {LOOK} s\n")
    print(
        "| decisions a day | swing by day and night | decisions | alarms | nearest |\n|---|---|---|---|---|"
    )
    for a_day, swing in ((A_DAY, 0.0), (A_DAY, 0.2), (A_DAY, 0.4), (500_000, 0.2)):
        chance = np.random.default_rng(1)
        watches = Watches(traffic.scores(chance, 200_000, PREVALENCE))
        scores, count = swinging(swing), round(a_day / DAY * LOOK)
        alarms, nearest = 0, 0.0
        for look in range(items // 5 // count if a_day < A_DAY else items // count):
            if watches.update(scores(chance, count, look * LOOK)):
                alarms += 1
                watches.restart()
            nearest = max(nearest, watches.height)
        seen = (look + 1) * count
        print(f"| {a_day:,} | {swing:.0%} | {seen:,} | {alarms} | {nearest:.2f} of 1 |", flush=True)


def shifted(by: float) -> Scores:
    """The same posts, of which the model thinks otherwise: its logits moved."""

    def scores(chance: np.random.Generator, count: int, _: float) -> NDArray[np.float64]:
        found = np.clip(traffic.scores(chance, count, PREVALENCE), 1e-4, 1 - 1e-4)
        odds = found / (1 - found) * np.exp(by)
        return np.asarray(np.round(odds / (1 + odds), 4), dtype=np.float64)

    return scores


def flooded(share: float) -> Scores:
    """A new kind of posts among the others, of which the model always thinks the same."""

    def scores(chance: np.random.Generator, count: int, _: float) -> NDArray[np.float64]:
        others = traffic.scores(chance, count, PREVALENCE)
        return np.where(chance.random(count) < share, 0.03, others)

    return scores


def _detections(repeats: int) -> None:
    drifts: dict[str, Scores] = {
        f"{times} x as much breaks the rule": lambda chance, count, _, times=times: traffic.scores(
            chance, count, PREVALENCE * times
        )  # type: ignore[misc]
        for times in (1.75, 2, 3, 5)
    }
    drifts |= {f"the model's logits move by {by:+}": shifted(by) for by in (0.5, 1.0, 2.0, -1.0)}
    drifts |= {f"{share:.0%} of another kind, all scored alike": flooded(share) for share in (0.1, 0.2, 0.5)}
    print(f"\nDecisions until the alarm, {repeats} repeats\n")
    print("| drift | looks of 10: median, worst | looks of 580: median, worst | at ten million a day |")
    print("|---|---|---|---|")
    for name, scores in drifts.items():
        shown = []
        for count, most in ((10, 6_000), (580, 300)):
            took = [_until(scores, count, most, seed) for seed in range(repeats)]
            missed = sum(one is None for one in took)
            known = [one if one is not None else most * count for one in took]
            shown.append(f"{median(known):,.0f}, {max(known):,}" + (f" ({missed} not)" if missed else ""))
        seconds = LOOK * (-(-median(known) // 580))
        print(f"| {name} | {shown[0]} | {shown[1]} | {seconds:.0f} s |", flush=True)


def _until(scores: Scores, count: int, most: int, seed: int) -> int | None:
    """Decisions until the alarm, None if there is none within `most` looks."""
    chance = np.random.default_rng(seed)
    watches = Watches(traffic.scores(chance, 20_000, PREVALENCE))
    for look in range(most):
        if watches.update(scores(chance, count, 0.0)):
            return (look + 1) * count
    return None


def _checks(repeats: int, allowed: float = 0.02, most: int = 5_000) -> None:
    print(
        f"\nChecks until the alarm; at most {allowed:.0%} may be wrong; looks of 5 checks, {repeats} repeats\n"
    )
    print("| really wrong | alarms within 5,000 checks | checks: median, worst |\n|---|---|---|")
    for share in (0.01, 0.02, 0.03, 0.04, 0.08, 0.2):
        took = []
        for seed in range(repeats):
            chance, watch = np.random.default_rng(seed), RiskWatch(allowed, 0.01)
            state = watch.begin()
            for look in range(most // 5):
                state = watch.update(state, (chance.random(5) < share).astype(float), np.full(5, 0.01))
                if watch.alarm(state):
                    took.append((look + 1) * 5)
                    break
        said = f"{median(took):,.0f}, {max(took):,}" if len(took) > repeats / 2 else "-"
        print(f"| {share:.0%} | {len(took)} of {repeats} | {said} |", flush=True)


# --- a running service ---


def _cost(service: Service, repeats: int = 7) -> None:
    """How long a look takes, the relay being held still meanwhile."""
    (relay,) = (pid for pid, name in service.processes().items() if name.startswith("relay"))
    chance, now, took = np.random.default_rng(1), datetime.now(UTC), {}
    os.kill(relay, signal.SIGSTOP)
    try:
        with seeding.opened(service) as (databases, _):
            with transaction(databases.content) as session:
                policy = PolicyCache().current(session)
                for number, (category, side) in enumerate(product(CATEGORIES, Side), 100):
                    traffic.certificate(
                        session, traffic.scores(chance, 20_000), now, side, category=category, number=number,
                        policy_version=policy.version,
                    )  # fmt: skip
            watching.watch(databases.content, PolicyCache(), now)
            for count in (580, watching.MOST):
                rows = [_eightfold(chance, now) for _ in range(count)]
                with transaction(databases.content) as session:
                    traffic.write(session, rows, now)
                traffic.number(databases)
                took[count] = [_look(databases, policy, now) for _ in range(repeats)]
                watching.watch(databases.content, PolicyCache(), now)
    finally:
        os.kill(relay, signal.SIGCONT)
    print(f"\nA look at {2 * len(CATEGORIES)} certificates, each decision with {len(CATEGORIES)} scores\n")
    print("| decisions | ms: median, worst |\n|---|---|")
    for count, seconds in took.items():
        print(f"| {count:,} | {median(seconds) * 1000:.0f}, {max(seconds) * 1000:.0f} |", flush=True)


def _eightfold(chance: np.random.Generator, now: datetime) -> dict[str, Any]:
    found = traffic.row(0.0, now)
    (finding,) = found["findings"]
    scores = traffic.scores(chance, len(CATEGORIES))
    findings = [
        finding | {"category": category, "probability": float(score)}
        for category, score in zip(CATEGORIES, scores, strict=True)
    ]
    return found | {"findings": findings}


def _look(databases: Databases, policy: Policy, now: datetime) -> float:
    """Seconds of one look, which is taken back."""
    began = time.perf_counter()
    with transaction(databases.content) as session:
        watching.look(session, policy, now)
        took = time.perf_counter() - began
        session.rollback()
    return took


def _service(service: Service, runs: int, rate: float) -> None:
    print(f"\nA running service, {rate:.0f} posts a second, {runs} runs each\n")
    print(
        "| of the posts, of another kind | seconds until it is void: median, worst | reasons |\n|---|---|---|"
    )
    fitting = seeding.submit(service, drifting.mild(400, 1))
    number = 0
    for share in (1.0, 0.5, 0.2):
        took, reasons = [], []
        for _ in range(runs):
            number += 1
            certificate = drifting.certify(service, fitting, number)
            seconds, reason = _until_void(service, certificate, share, rate, number)
            took.append(seconds)
            reasons.append(reason)
        said = ", ".join(f"{reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))
        print(f"| {share:.0%} | {median(took):.1f}, {max(took):.1f} | {said} |", flush=True)


def _until_void(
    service: Service, certificate: UUID, share: float, rate: float, number: int
) -> tuple[float, str]:
    """Seconds from the first post of another kind being sent to the certificate being void, and why it is."""
    with _posting(service, rate, number) as load:
        time.sleep(random.Random(number).uniform(LOOK, 2 * LOOK))  # anywhere between two looks
        assert drifting.ended(service, certificate) is None, "it ended without a drift"
        load.share, began = share, time.monotonic()
        while (reason := drifting.ended(service, certificate)) is None:
            time.sleep(0.05)
        return time.monotonic() - began, reason


class Load:
    """What is sent: the share of rude posts can be changed meanwhile."""

    def __init__(self) -> None:
        self.share = 0.0
        self.stop = threading.Event()


@contextmanager
def _posting(service: Service, rate: float, number: int) -> Iterator[Load]:
    """Posts at a steady rate, in another thread."""
    load, chance = Load(), random.Random(number)

    def send() -> None:
        begun, sent = time.monotonic(), 0
        with service.client() as client:
            while not load.stop.wait(max(0.0, begun + sent / rate - time.monotonic())):
                seed = number * 100_000 + sent
                make = drifting.rude if chance.random() < load.share else drifting.mild
                client.post("/v1/items", json=make(1, seed)[0]).raise_for_status()
                sent += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
