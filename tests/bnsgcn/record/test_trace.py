"""Traces: marks become names and arrows, ranks keep apart, and the largest are those of their own time."""

from __future__ import annotations

from typing import Any

import pytest

from bnsgcn.record.trace import Passage, RankTrace, finished, true_time


def slice_of(name: str, ts: float, dur: float, tid: int = 7) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 4242, "tid": tid, "ts": ts, "dur": dur}


def marked(ts: float, dur: float, **fields: Any) -> dict[str, Any]:
    return slice_of(Passage(**fields).to_text(), ts, dur)


def events_of(rank: int, peers: tuple[int, ...]) -> list[dict[str, Any]]:
    """One exchange of layer 1, posted in epoch 3, and what torch draws itself."""
    start = 100.0 * rank
    return [
        {"ph": "M", "name": "process_name", "pid": 4242, "args": {"name": "python"}},
        slice_of("epoch", start, 90),
        marked(start + 10, 20, layer=1, rows="features", posted=3, stale=False, peers=peers),
        marked(start + 40, 30, layer=1, rows="features", posted=3, stale=False),
        {"ph": "s", "id": 5, "pid": 4242, "tid": 7, "ts": start + 1, "name": "fwdbwd", "cat": "fwdbwd"},
        {"ph": "f", "id": 5, "pid": 4242, "tid": 7, "ts": start + 80, "name": "fwdbwd", "cat": "fwdbwd"},
    ]


def arrows(trace: dict[str, Any], category: str) -> dict[int, list[dict[str, Any]]]:
    """Ends of the arrows, by number."""
    found: dict[int, list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if event.get("cat") == category and event["ph"] in "sf":
            found.setdefault(event["id"], []).append(event)
    return found


def test_a_mark_comes_back() -> None:
    for mark in (
        Passage(layer=0, rows="features", posted=0, stale=True, peers=(1, 2)),
        Passage(layer=2, rows="gradients", posted=17, stale=False, peers=()),
        Passage(layer=2, rows="gradients", posted=17, stale=True),
    ):
        assert Passage.of({"ph": "X", "name": mark.to_text()}) == mark
    assert Passage.of({"ph": "X", "name": "aten::add"}) is None
    assert Passage.of({"ph": "M"}) is None


def test_messages_are_arrows_from_sender_to_receiver() -> None:
    """Rank 0 sends to 1 and 2, rank 1 to 0; nobody else."""
    peers: tuple[tuple[int, ...], ...] = ((1, 2), (0,), ())
    ranks = [RankTrace(rank, events_of(rank, peers[rank])) for rank in range(3)]
    trace = finished(ranks)
    found = sorted(
        (begin["pid"] // 1000 - 1, end["pid"] // 1000 - 1) for begin, end in arrows(trace, "message").values()
    )
    assert found == [(0, 1), (0, 2), (1, 0)]
    for begin, end in arrows(trace, "message").values():
        assert (begin["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        for event, name in ((begin, "post features of layer 1"), (end, "take features of layer 1")):
            around = [
                each["name"]
                for each in trace["traceEvents"]
                if each["ph"] == "X"
                and each["pid"] == event["pid"]
                and each["ts"] <= event["ts"] <= each["ts"] + each["dur"]
            ]
            assert name in around
    assert len(arrows(trace, "fwdbwd")) == 3, "torch's own arrows of different ranks have different numbers"
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"]
    assert names == ["rank 0 python", "rank 1 python", "rank 2 python"]


def test_alone_a_rank_has_arrows_from_its_posts_to_its_takes() -> None:
    trace = finished([RankTrace(1, events_of(1, (0,)))])
    assert len(arrows(trace, "message")) == 1
    assert not arrows(finished([RankTrace(1, events_of(1, ()))]), "message")


def test_an_evaluation_after_the_epoch_is_an_exchange_of_its_own() -> None:
    """Exact rows are those that were posted last; stale ones wait, whatever is exchanged meanwhile."""
    exact = [
        marked(10.0 * place, 5, layer=0, rows="features", posted=4, stale=False, peers=peers)
        for place, peers in enumerate([(0,), None, (0,), None])
    ]
    stale = [
        marked(1, 2, layer=0, rows="features", posted=4, stale=True, peers=(0,)),
        marked(90, 5, layer=0, rows="features", posted=4, stale=True),
        marked(95, 5, layer=0, rows="features", posted=3, stale=True),
    ]
    trace = finished([RankTrace(0, [*exact, *stale])])
    found = sorted((begin["ts"], round(end["ts"])) for begin, end in arrows(trace, "message").values())
    assert found == [(0, 15), (1, 95), (20, 35)], "what was posted before the trace began has no arrow"


def test_spans_that_torch_repeats_for_a_gpu_are_no_other_messages() -> None:
    events = events_of(0, (0,))
    copies = [event | {"cat": "gpu_user_annotation", "tid": 9} for event in events if event["ph"] == "X"]
    trace = RankTrace(0, [*events, *copies])
    assert len(arrows(finished([trace]), "message")) == 1
    assert {row["name"]: row["calls"] for row in trace.largest()}["epoch"] == 1
    assert not [event for event in trace.events if "bnsgcn:" in event["name"]]


def test_times_are_those_of_the_machine() -> None:
    """Of two ranks that worked at the same time, one has a clock that is late, more and more so."""
    origin_ns = 1_790_857_026_000_000_000
    found = []
    for late, slow in ((0.0, 1.0), (5000.0, 0.9)):
        times = [(0, 40), (50, 0), (900, 30), (950, 0)]  # when, and how long until the slice was opened
        events = [
            slice_of(f"bnsgcn-clock:{origin_ns + 1000 * at}", slow * (at + delay) - late, 1)
            for at, delay in times
        ]
        trace = RankTrace(0, [*events, slice_of("epoch", slow * 100 - late, slow * 700)], origin_ns)
        (epoch,) = trace.events
        found.append((epoch["ts"], epoch["dur"]))
    assert found[0] == pytest.approx((100, 700))
    assert found[1] == pytest.approx((100, 700))
    assert true_time([], origin_ns) == (0.0, 1.0)


def test_transfers_are_beside_the_work() -> None:
    """They end after the slice in which they begin; slices of a thread lie one in the other."""
    events = [
        slice_of("halo_wait", 0, 10),
        slice_of("gloo:recv", 5, 100) | {"cat": "user_annotation"},
        slice_of("gloo:recv", 6, 90) | {"cat": "user_annotation"},
        {"ph": "X", "cat": "kernel", "name": "ncclDevKernel", "pid": 0, "tid": 7, "ts": 0, "dur": 9},
    ]
    trace = RankTrace(1, events)
    found = [(event["ph"], event["ts"]) for event in trace.events if event.get("cat") == "transfer"]
    assert found == [("b", 5), ("e", 105), ("b", 6), ("e", 96)]
    assert len({event["id"] for event in trace.events if event.get("cat") == "transfer"}) == 2
    assert [row["name"] for row in trace.largest()] == ["halo_wait", "ncclDevKernel"]
    assert all(event["pid"] >= 2000 for event in trace.events)


def test_the_largest_are_those_of_their_own_time() -> None:
    events = [
        slice_of("outer", 0, 100),
        slice_of("inner", 10, 30),
        slice_of("innermost", 15, 5),
        slice_of("inner", 60, 40),
        slice_of("elsewhere", 20, 60, tid=8),
        {"ph": "X", "cat": "Trace", "name": "the profiler", "pid": 4242, "tid": 7, "ts": 0, "dur": 1000},
    ]
    found = {
        row["name"]: (row["calls"], round(row["self_s"] * 1e6)) for row in RankTrace(0, events).largest()
    }
    assert found == {"inner": (2, 65), "elsewhere": (1, 60), "outer": (1, 30), "innermost": (1, 5)}
    assert next(iter(found)) == "inner"
    many = [slice_of(f"op {number}", 10 * number, 5) for number in range(30)]
    assert len(RankTrace(0, many).largest()) == 10
