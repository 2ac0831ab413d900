"""What a person would say who looked at a run: a figure, what it means, what to try.

E epochs   P ranks
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bnsgcn.record.medians import WARM_UP_EPOCHS
from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.units import duration, size
from partition.errors import printable
from partition.quality import Quality

Floats = npt.NDArray[np.float64]

WAITS, REDUCES = 0.05, 0.10
"""Shares of an epoch above which waiting for rows, or for the others at its end, is worth a word."""
UNEVEN = 1.15
"""The slowest rank's computation over the mean's, from which on the others wait for it."""
UNSTEADY = 2.0
WASTEFUL = 1.6
STILL_GROWING = 1.05
ERRONEOUS = 0.5
EARLY = 0.5
"""A best epoch before this share of all epochs is one long before the end."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One remark."""

    says: str
    """With the figure."""
    advice: str = ""
    """What to try."""
    about: str = ""
    """The run, where there are several."""


def findings(run: RecordedRun, quality: Quality | None) -> list[Finding]:
    """All remarks on a run, the gravest first; `quality` of its parts, where they still lie there."""
    if not run.history:
        return []
    return [
        *_trouble(run),
        *_scores(run),
        *_waiting(run, quality),
        *_unsteady(run),
        *_memory(run),
        *_error(run),
    ]


def seen_again(found: Sequence[Finding], runs: int) -> list[Finding]:
    """Findings of several runs, those with the same advice together: the first, and how many more."""
    kinds: dict[str, list[Finding]] = {}
    for finding in found:
        kinds.setdefault(finding.advice or finding.says, []).append(finding)
    told = []
    for alike in kinds.values():
        first, abouts = alike[0], list(dict.fromkeys(finding.about for finding in alike))
        more = f" and {len(abouts) - 1} more" if len(abouts) > 1 else ""
        about = (
            f"all {runs} runs, such as {first.about}" if len(abouts) == runs > 2 else f"{first.about}{more}"
        )
        told.append(dataclasses.replace(first, about=about))
    return told


def steady(values: Floats) -> Floats:
    """The values without those of the first epochs, where there are more; none that are not known."""
    kept = values[WARM_UP_EPOCHS:] if values.size > WARM_UP_EPOCHS else values
    return kept[np.isfinite(kept)]


def median(values: Floats) -> float:
    """Of the steady values; NaN of none."""
    kept = steady(values)
    return float(np.median(kept)) if kept.size else math.nan


def of_ranks(run: RecordedRun, name: str) -> Floats:
    """The median of every rank [P], NaN where it was not recorded."""
    return np.array([median(np.asarray(rank.get(name, [math.nan]), float)) for rank in run.ranks])


def percent(share: float) -> str:
    """A share in words."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"


# ---- how it went ----


def _trouble(run: RecordedRun) -> Iterator[Finding]:
    planned = run.facts.config.epochs
    for path in sorted((run.path / "errors").glob("rank_*.txt")):
        lines = path.read_text(errors="replace").strip().splitlines()
        if run.state != "ended":
            last = printable(lines[-1])[:200] if lines else "no traceback"
            rank = path.stem.removeprefix("rank_")
            yield Finding(f"Rank {rank} failed after epoch {run.epochs}: {last}.", f"read {path}")
    if run.state == "stopped" and run.epochs < planned:
        yield Finding(
            f"The run stopped after epoch {run.epochs} of {planned}.",
            "the same command with --resume goes on",
        )
    loss = steady(run.of("loss"))
    if loss.size >= 20:
        tenth = max(2, loss.size // 10)
        least = min(float(np.median(loss[i : i + tenth])) for i in range(0, loss.size - tenth + 1, tenth))
        last_loss = float(np.median(loss[-tenth:]))
        if last_loss > 1.2 * least and last_loss - least > 0.02:
            yield Finding(
                f"The loss rose again: {last_loss:.3f} at the end, {least:.3f} at its lowest.",
                f"a lower --lr (now {run.facts.config.lr:g})",
            )


def _scores(run: RecordedRun) -> Iterator[Finding]:
    val, config = run.of("val_score"), run.facts.config
    evaluated = np.flatnonzero(np.isfinite(val))
    if not evaluated.size:
        if run.state == "ended":
            yield Finding(
                "No epoch has a validation score, so no checkpoint is known to be the best.",
                "--val-share 0.1 where the graph has no validation nodes",
            )
        return
    scores = val[evaluated]
    best, count = int(scores.argmax()), scores.size
    when = int(run.history["epoch"][evaluated[best]]) + 1
    if run.state == "running" or count < 4:
        return
    before = float(scores[: max(1, count - max(1, count // 5))].max())
    if best == count - 1 and scores[best] - before > 0.001:
        yield Finding(
            f"The validation score was still rising at the last epoch: {scores[best]:.4f}, "
            f"{before:.4f} a fifth of the run before.",
            f"train longer: --epochs {2 * run.epochs} --resume",
        )
    late = count - 1 - best
    if not config.patience and when < EARLY * run.epochs and late >= 8 and scores[-1] < scores[best]:
        patience = max(3, min(late, count // 5))
        yield Finding(
            f"The best epoch, {when}, came long before the end, {run.epochs}: "
            f"{percent(1 - when / run.epochs)} of the run brought nothing.",
            f"--patience {patience} ends it {patience} evaluations after the best one",
        )


# ---- where time goes ----


def _waiting(run: RecordedRun, quality: Quality | None) -> Iterator[Finding]:
    epoch_s = median(run.of("time/epoch_s"))
    if run.facts.parts < 2 or not epoch_s > 0:
        return
    wait = median(run.of("time/halo_wait_s")) / epoch_s
    uneven = _uneven(run, quality)
    if uneven is not None:
        yield uneven
    if uneven is None and quality is not None and (finding := _unequal_parts(quality)) is not None:
        yield finding
    config = run.facts.config
    if wait >= WAITS:
        advice = "--pipeline hides it behind computation"
        if config.pipeline:
            advice = "fewer bytes: --wire-dtype int8, or --sampling-rate below 1"
        if config.policy == "auto":
            advice = "--aim time looks at what hides" if config.saves_bytes else "a larger --tolerance"
        seconds = duration(wait * epoch_s)
        yield Finding(f"Halo wait is {percent(wait)} of the epoch, {seconds} on the slowest rank.", advice)
    reduce = median(run.of("time/reduce_s")) / epoch_s
    if uneven is None and reduce >= REDUCES:
        yield Finding(
            f"Reduce is {percent(reduce)} of the epoch: there the ranks wait for the last of them.",
            "compare its ranks' times; on one machine see that nothing else takes its cores",
        )


def _uneven(run: RecordedRun, quality: Quality | None) -> Finding | None:
    """A rank that computes longer than the others, which wait for it."""
    compute, epoch = of_ranks(run, "time/compute_s"), of_ranks(run, "time/epoch_s")
    waits = of_ranks(run, "time/halo_wait_s") + of_ranks(run, "time/reduce_s")
    if compute.size < 2 or not (np.isfinite(compute) & np.isfinite(waits) & (epoch > 0)).all():
        return None
    slow, idle = int(compute.argmax()), int((waits / epoch).argmax())
    ratio, share = float(compute[slow] / compute.mean()), float(waits[idle] / epoch[idle])
    if ratio < UNEVEN or share < WAITS or slow == idle:
        return None
    says = (
        f"Rank {idle} waits {percent(share)} of its epoch for rank {slow}, which computes {ratio:.2f} times "
        f"as long as the mean"
    )
    if quality is None or slow >= quality.parts:
        return Finding(f"{says}.", "`bnsgcn inspect` of the parts shows whether they are even")
    arcs = [part.arcs for part in quality.per_part]
    load = arcs[slow] / (sum(arcs) / len(arcs)) if sum(arcs) else 1.0
    if load >= 1.05:
        return Finding(
            f"{says}: its part has {load:.2f} times the arcs.",
            "cut again with another --seed or more --starts",
        )
    return Finding(
        f"{says}; its part has no more arcs than others ({load:.2f} times the mean).",
        "its machine is slower or shared: see what else runs there",
    )


def _unequal_parts(quality: Quality) -> Finding | None:
    worst = quality.worst_over_mean["arcs"]
    if worst < UNEVEN:
        return None
    part = max(quality.per_part, key=lambda each: each.arcs).part
    return Finding(
        f"Part {part} has {worst:.2f} times the mean's arcs.",
        "cut again with another --seed or more --starts",
    )


def _unsteady(run: RecordedRun) -> Iterator[Finding]:
    seconds = steady(run.of("time/epoch_s"))
    if seconds.size < 20:
        return
    middle, late = float(np.median(seconds)), float(np.percentile(seconds, 95))
    if middle > 0 and late >= UNSTEADY * middle:
        yield Finding(
            f"One epoch in twenty takes {late / middle:.1f} times the median ({duration(late)} against "
            f"{duration(middle)}).",
            "the machine is shared or swaps: fewer --threads, or nothing else beside it",
        )


# ---- memory and errors ----


def _memory(run: RecordedRun) -> Iterator[Finding]:
    peak, least = run.figure("peak_rss_bytes"), run.figure("least_rss_bytes")
    if least > 0 and peak >= WASTEFUL * least and peak - least > 200e6:
        yield Finding(
            f"The largest worker used {size(peak)}, {peak / least:.1f} times the {size(least)} that its "
            f"epoch needs at least.",
            "`bnsgcn plan` says what of it is room for passing matrices; fewer --threads keep fewer of them",
        )
    held = steady(run.of("memory/peak_rss_bytes"))
    if held.size >= 40 and held[-1] > STILL_GROWING * held[held.size // 2]:
        yield Finding(
            f"Memory still grew in the second half of the run, from {size(held[held.size // 2])} to "
            f"{size(held[-1])}.",
            "of a model or a loss of your own: see what it keeps from epoch to epoch",
        )


def _error(run: RecordedRun) -> Iterator[Finding]:
    config = run.facts.config
    error = median(run.of("sampling/relative_error"))
    if error > ERRONEOUS and config.sampling_rate < 1:
        uniform = config.sampler == "uniform"
        yield Finding(
            f"Sampled sums are off by {percent(error)} of their size.",
            "--sampler importance at the same bytes" if uniform else "a higher --sampling-rate",
        )
    gap = median(run.of("stale/relative_gap"))
    if gap > ERRONEOUS and config.pipeline:
        smooth = "" if config.smooth_features else " --smooth-features"
        yield Finding(
            f"Stale rows are {percent(gap)} off those of the epoch.",
            f"a lower --lr{', or' + smooth if smooth else ''}",
        )
