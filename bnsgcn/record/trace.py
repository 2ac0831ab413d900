"""From what torch's profiler wrote to traces that people read: ranks by name, messages as arrows.

    RUN/profile/rank_K.json.gz   a Chrome trace of rank K; arrows from where it posts rows to where it takes
                                 the rows of the same exchange
    RUN/profile/ranks.json.gz    all ranks together; an arrow from sender to receiver for every message

They open in ui.perfetto.dev and chrome://tracing. Clocks of several machines are taken as they are.

An event is an object of the Chrome trace format: `ph` X is a slice of `dur` microseconds from `ts` in thread
`tid` of process `pid`; s and f are the ends of an arrow, each in the slice that encloses it.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Exchange = tuple[int, str, int, bool, int]
"""Layer, rows, epoch and whether it is stale, and which of those it is."""

LARGEST = 10
IDS_OF_A_RANK, TRANSFERS_FROM = 1 << 32, 1 << 31
"""More arrows than torch draws in a trace."""
_MARK = "bnsgcn"
CLOCK = "bnsgcn-clock:"
"""Before the nanoseconds since 1970, as the name of a slice."""
_ON_GPU = "gpu_user_annotation"
"""A span once more, as long as its kernels run."""
_TRANSFERS = ("gloo:", "nccl:")
"""What torch shows from posting to arrival; what is waited for of it is in the spans."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passage:
    """What a slice says about a message, as the slice's name until the trace is finished."""

    layer: int
    rows: str
    """features or gradients."""
    posted: int
    """The epoch in which the rows left, from 0."""
    stale: bool
    """Whether they are taken an epoch later; an evaluation after that epoch takes its own at once."""
    peers: tuple[int, ...] | None = None
    """Ranks that the rows go to, where the slice is a post; None where they are taken."""

    def to_text(self) -> str:
        """The name of the slice; the inverse of `of`. torch leaves out quotation marks."""
        peers = "take" if self.peers is None else ",".join(map(str, self.peers))
        return f"{_MARK}:{self.layer}:{self.rows}:{self.posted}:{int(self.stale)}:{peers}"

    @classmethod
    def of(cls, event: Event) -> Passage | None:
        """The mark of a slice; None where it has none."""
        mark, *pieces = str(event.get("name", "")).split(":")
        if mark != _MARK or event.get("ph") != "X":
            return None
        layer, rows, posted, stale, peers = pieces
        ranks = None if peers == "take" else tuple(int(peer) for peer in peers.split(",") if peer)
        return cls(layer=int(layer), rows=rows, posted=int(posted), stale=stale == "1", peers=ranks)

    @property
    def name(self) -> str:
        """What people see."""
        return f"{'take' if self.peers is None else 'post'} {self.rows} of layer {self.layer}"


class RankTrace:
    """The events of one rank."""

    def __init__(self, rank: int, events: Sequence[Event], origin_ns: int = 0) -> None:
        """`events`: as torch's profiler wrote them, in time since `origin_ns` after 1970."""
        self.rank = rank
        self._offset, self._slope = true_time(events, origin_ns)
        self.events: list[Event] = []
        self.marked: list[tuple[Passage, Event]] = []
        self._pids: dict[Any, int] = {}
        for event in events:
            if str(event.get("name")).startswith(CLOCK):
                continue
            mark = Passage.of(event)
            renamed = self._of_rank(event, mark)
            if renamed.get("ph") == "X" and str(renamed.get("name")).startswith(_TRANSFERS):
                self.events += _beside(renamed, self._ids_from + TRANSFERS_FROM + len(self.events))
                continue
            self.events.append(renamed)
            if mark is not None and event.get("cat") != _ON_GPU:
                self.marked.append((mark, renamed))

    @property
    def _ids_from(self) -> int:
        return self.rank * IDS_OF_A_RANK

    def _of_rank(self, event: Event, mark: Passage | None) -> Event:
        """The event with a name that people read, and with numbers that no other rank has."""
        changed = dict(event)
        if "ts" in event:
            changed["ts"] = self._offset + self._slope * event["ts"]
        if "dur" in event:
            changed["dur"] = self._slope * event["dur"]
        if "pid" in event:
            number = self._pids.setdefault(event["pid"], len(self._pids))
            changed["pid"] = (self.rank + 1) * 1000 + number  # 0 is the idle process to who reads traces
        if isinstance(event.get("id"), int):
            changed["id"] = self._ids_from + event["id"]
        if event.get("name") == "process_name":
            changed["args"] = {"name": f"rank {self.rank} {event['args'].get('name', '')}".strip()}
        if event.get("name") == "process_sort_index":
            changed["args"] = {"sort_index": changed["pid"]}
        if mark is not None:
            changed |= {"name": mark.name, "args": {"epoch of the rows": mark.posted + 1}}
        return changed

    def largest(self) -> list[dict[str, Any]]:
        """What took the most time of its own, without what it called: name, calls, self_s; longest first."""
        own: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for thread in self._slices():
            open_until: list[tuple[float, str]] = []
            for event in sorted(thread, key=lambda event: (event["ts"], -event["dur"])):
                while open_until and event["ts"] >= open_until[-1][0]:
                    open_until.pop()
                if open_until:
                    own[open_until[-1][1]] -= event["dur"]
                own[event["name"]] += event["dur"]
                calls[event["name"]] += 1
                open_until.append((event["ts"] + event["dur"], event["name"]))
        names = sorted(own, key=lambda name: -own[name])[:LARGEST]
        return [{"name": name, "calls": calls[name], "self_s": own[name] / 1e6} for name in names]

    def _slices(self) -> Iterable[list[Event]]:
        """Of every thread; what the profiler says about itself is left out."""
        threads: dict[Any, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.get("ph") == "X" and event.get("cat") not in ("Trace", "overhead", _ON_GPU):
                threads[event["pid"], event["tid"]].append(event)
        return threads.values()


def true_time(events: Iterable[Event], origin_ns: int) -> tuple[float, float]:
    """(offset, slope): microseconds since `origin_ns` after 1970 are offset + slope * time of the trace.

    torch converts counts of the processor into time by comparing the two when the profiler starts and when it
    ends; a process that is interrupted in a comparison has times that are off by milliseconds. So slices at
    both ends are named by the time at which they are opened, and the one that was delayed least is right.
    """
    named = [event for event in events if event.get("ph") == "X" and event["name"].startswith(CLOCK)]
    pairs = sorted((event["ts"], (int(event["name"][len(CLOCK) :]) - origin_ns) / 1e3) for event in named)
    if not pairs:
        return 0.0, 1.0
    half = (len(pairs) + 1) // 2
    (first, true_first), (last, true_last) = (
        max(group, key=lambda pair: pair[1] - pair[0]) for group in (pairs[:half], pairs[half:] or pairs)
    )
    slope = (true_last - true_first) / (last - first) if last > first else 1.0
    return true_first - slope * first, slope


def _beside(event: Event, number: int) -> list[Event]:
    """The same in a row of its own: a transfer ends after the slice in which it began, and no slice may."""
    common = {
        "cat": "transfer",
        "id": number,
        "name": event["name"],
        "pid": event["pid"],
        "tid": event["tid"],
    }
    end = event["ts"] + event["dur"]
    return [common | {"ph": "b", "ts": event["ts"]}, common | {"ph": "e", "ts": end}]


def finished(ranks: Sequence[RankTrace]) -> dict[str, Any]:
    """A trace of these ranks: their events, and the arrows between them, or within the one there is."""
    events = [event for trace in ranks for event in trace.events]
    return {"traceEvents": [*events, *_arrows(ranks)], "displayTimeUnit": "ms"}


def _arrows(ranks: Sequence[RankTrace]) -> list[Event]:
    """From the slices that post rows to those that take them, a pair of events each."""
    posts: dict[Exchange, list[tuple[int, tuple[int, ...], Event]]] = defaultdict(list)
    takes: list[tuple[Exchange, int, Event]] = []
    for trace in ranks:
        for exchange, mark, event in _exchanges(trace):
            if mark.peers is None:
                takes.append((exchange, trace.rank, event))
            elif mark.peers:
                posts[exchange].append((trace.rank, mark.peers, event))
    ids = itertools.count((max(trace.rank for trace in ranks) + 1) * IDS_OF_A_RANK)
    found: list[Event] = []
    for exchange, receiver, take in takes:
        for sender, readers, post in posts[exchange]:
            if receiver in readers or (sender == receiver and len(ranks) == 1):
                found += _arrow(next(ids), post, take)
    return found


def _exchanges(trace: RankTrace) -> Iterator[tuple[Exchange, Passage, Event]]:
    """Each mark of a rank with its exchange: the last of its kind that was posted, alike on all ranks."""
    counts: Counter[tuple[int, str, int, bool]] = Counter()
    for mark, event in sorted(trace.marked, key=lambda pair: pair[1]["ts"]):
        kind = mark.layer, mark.rows, mark.posted, mark.stale
        counts[kind] += mark.peers is not None
        yield (*kind, counts[kind]), mark, event


def _arrow(number: int, post: Event, take: Event) -> tuple[Event, Event]:
    """Rows leave while the post lasts, and have arrived when the take ends."""
    common = {"id": number, "name": "rows", "cat": "message"}
    begin, end = post["ts"], take["ts"] + 0.99 * take["dur"]
    return (
        common | {"ph": "s", "pid": post["pid"], "tid": post["tid"], "ts": begin},
        common | {"ph": "f", "bp": "e", "pid": take["pid"], "tid": take["tid"], "ts": end},
    )


def write_trace(path: Path, trace: dict[str, Any]) -> None:
    """Write compressed JSON."""
    with gzip.open(path, "wt", compresslevel=5) as file:
        json.dump(trace, file)


def read_trace(rank: int, path: Path) -> RankTrace:
    """What torch's profiler wrote on a rank.

    Raises:
        OSError: There is no such file.
        ValueError: It was cut short.
    """
    found = json.loads(path.read_bytes())
    return RankTrace(rank, found["traceEvents"], found.get("baseTimeNanoseconds", 0))
