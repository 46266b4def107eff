"""What each stage gives, what happens to items that fail, and what is refused when a flow is written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from mlports.flow import DeadLetter, Flow, FlowError, FlowFailed, Progress


def inverse(number: int) -> float:
    return 1 / number


def test_the_stages_do_what_comprehensions_do() -> None:
    flow = Flow.from_iterable(range(10)).map(lambda x: x * x).filter(lambda x: x % 2).flat_map(lambda x: [x, -x])
    assert flow.collect() == [y for x in range(10) if x * x % 2 for y in (x * x, -x * x)]
    assert list(flow) == flow.collect(), "a flow of something that can be iterated again can be run again"


def test_the_last_batch_may_be_shorter() -> None:
    assert Flow.from_iterable(range(7)).batch(3).collect() == [[0, 1, 2], [3, 4, 5], [6]]
    assert Flow.from_iterable([]).batch(3).collect() == []


def larger(one: float, other: float) -> float:
    return max(one, other)


async def wait_a_little(number: int) -> int:
    return number


async def numbers() -> AsyncIterator[int]:
    for number in range(2500):
        yield number


def test_async_iterables_are_sources_too() -> None:
    assert Flow.from_iterable(numbers()).map(lambda x: x + 1).collect() == list(range(1, 2501))


async def test_async_code_awaits_arun() -> None:
    assert await Flow.from_iterable(numbers()).filter(lambda x: x > 2497).acollect() == [2498, 2499]
    assert [x async for x in Flow.from_iterable(numbers()).take(3)] == [0, 1, 2]
    with pytest.raises(FlowError, match="await its arun"):
        Flow.from_iterable(numbers()).run()


def test_stop_names_the_stage_the_item_and_the_reason() -> None:
    kept: list[float] = []
    with pytest.raises(FlowFailed, match=r"map\(inverse\) failed on 0: ZeroDivisionError: division by zero") as caught:
        Flow.from_iterable([2, 1, 0, 4]).map(inverse).to(kept.append).run()
    assert (caught.value.stage, caught.value.item) == ("map(inverse)", 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("on", [None, "threads"])
@pytest.mark.parametrize("kind", ["map", "filter", "flat_map"])
def test_skip_leaves_out_the_item_and_calls_nothing_twice(kind: str, on: Any) -> None:
    """Guards side effects: an item beside the one that failed must not be worked on again."""
    called: list[int] = []

    def work(item: int) -> Any:
        called.append(item)
        if item in (0, 3, 9):
            raise ValueError(item)
        return [item]

    report = getattr(Flow.from_iterable(range(10)), kind)(work, on=on).run(errors="skip")
    assert sorted(called) == list(range(10))
    assert (report.failed, report.given) == (3, 7)


def test_dead_letters_have_the_item_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    items: list[Any] = [1, 0, {1, 2}]
    flow = Flow.from_iterable(items).map(inverse)
    assert flow.run(errors=path).failed == 2
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"stage": "map(inverse)", "reason": "ZeroDivisionError: division by zero", "item": 0}
    assert second["repr"] == "{1, 2}"
    letters: list[DeadLetter] = []
    flow.run(errors=letters.append)
    assert [letter.item for letter in letters] == [0, {1, 2}]


def test_an_error_of_the_source_itself_is_raised_whatever_is_done_about_items() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        Flow.from_iterable(broken()).run(errors="skip")


def test_what_is_half_written_is_refused() -> None:
    flow = Flow.from_iterable([1])
    with pytest.raises(FlowError, match="neither follows"):
        flow.partition(str).map(str)
    with pytest.raises(FlowError, match="ends in to_jsonl"):
        flow.to_jsonl("x").map(str)
    with pytest.raises(FlowError, match="ends in a sink"):
        flow.branch(lambda branch: branch.map(str))
    with pytest.raises(FlowError, match="async function"):
        flow.map(wait_a_little)
    with pytest.raises(TypeError, match="can be iterated"):
        Flow.from_iterable(3)  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="give run"):
        flow.call("digits.predict").run()
    with pytest.raises(FlowError, match="means nothing"):
        flow.run(errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="say format="):
        Flow.from_file("rows.data")


def test_a_partition_reduces_each_key_and_a_flow_without_one_reduces_all() -> None:
    flow = Flow.from_iterable(range(10))
    assert flow.partition(lambda x: x % 3).reduce(int, lambda a, x: a + x).collect() == [(0, 18), (1, 12), (2, 15)]
    assert flow.reduce(0, lambda a, x: a + x).collect() == [45]
    assert flow.filter(lambda x: x > 10).reduce(lambda: 7, max).collect() == [7]


def test_each_group_has_an_accumulator_of_its_own() -> None:
    def add(items: list[int], item: int) -> list[int]:
        items.append(item)
        return items

    flow = Flow.from_iterable([1, 2, 3]).partition(lambda x: x % 2).reduce(list, add)
    assert flow.collect() == [(1, [1, 3]), (0, [2])]
    assert flow.collect() == [(1, [1, 3]), (0, [2])], "nothing of the first run is in the second"


def test_more_keys_than_there_is_room_for_end_the_run() -> None:
    flow = Flow.from_iterable(range(5000)).partition(lambda x: x, max_keys=1000).reduce(int, max)
    with pytest.raises(FlowError, match="more than 1,000 groups"):
        flow.run()


def test_a_branch_gets_the_same_items_or_those_alone_that_it_wants() -> None:
    all_of_them: list[list[int]] = []
    odd: list[int] = []
    flow = (
        Flow.from_iterable(range(7))
        .branch(lambda branch: branch.map(lambda x: x * 10).batch(4).to(all_of_them.append))
        .branch(lambda branch: branch.to(odd.append), when=lambda x: x % 2)
    )
    assert flow.collect() == [0, 2, 4, 6]
    assert all_of_them == [[0, 10, 20, 30], [40, 50, 60]]
    assert odd == [1, 3, 5]


def test_merge_takes_from_each_in_turn_and_ends_with_the_last() -> None:
    flow = Flow.from_iterable("abc", max_demand=1).merge(Flow.from_iterable("x"), Flow.from_iterable("12345"))
    assert flow.collect() == ["a", "x", "1", "b", "2", "c", "3", "4", "5"]


def test_a_join_with_a_finite_flow() -> None:
    names = Flow.from_iterable([(1, "one"), (2, "two"), (2, "deux")])
    flow = Flow.from_iterable([2, 3, 1])
    pairs = flow.join(names, key=lambda x: x, other_key=lambda pair: pair[0])
    assert pairs.collect() == [(2, (2, "two")), (2, (2, "deux")), (1, (1, "one"))]
    left = flow.join(names, key=lambda x: x, other_key=lambda pair: pair[0], how="left")
    assert left.collect()[2] == (3, None)
    with pytest.raises(FlowError, match="more than 2 items"):
        flow.join(names, key=lambda x: x, other_key=lambda pair: pair[0], max_items=2).collect()


def test_a_join_within_a_time() -> None:
    clicks = Flow.from_iterable([("a", 1.0), ("b", 2.0), ("a", 9.0)])
    views = Flow.from_iterable([("a", 0.0), ("b", 5.0), ("a", 10.0)])
    joined = clicks.join(views, key=lambda x: x[0], within=1.5, at=lambda x: x[1])
    assert joined.collect() == [(("a", 1.0), ("a", 0.0)), (("a", 9.0), ("a", 10.0))]


def test_late_items_are_counted_and_go_to_their_side() -> None:
    late: list[float] = []
    flow = Flow.from_iterable([1.0, 12.0, 3.0, 13.0, 25.0]).window(time=10, at=float, late=late.append)
    report = flow.to(lambda window: None).run()
    assert (report.late, late) == (1, [3.0])
    assert [window.value for window in flow] == [[1.0], [12.0, 13.0], [25.0]]


def test_late_items_may_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    flow = Flow.from_iterable([1.0, 12.0, 3.0]).window(time=10, at=float, late=path)
    assert len(flow.collect()) == 2
    assert path.read_text() == "3.0\n"


def test_progress_is_told_and_ends_with_all() -> None:
    told: list[Progress] = []
    Flow.from_iterable(list(range(1000))).run(progress=told.append)
    assert (told[-1].items, told[-1].done, told[-1].total) == (1000, 1000, 1000)


def test_a_stage_costs_at_most_one_and_a_half_microseconds_an_item() -> None:
    """Guards the way of chunks: a dispatch for each item would cost several times as much. Best of five."""
    items = list(range(50_000))
    flow = Flow.from_iterable(items).map(abs).filter(int).batch(100)

    def cost(work: Callable[[], object]) -> float:
        before = process_time()
        work()
        return process_time() - before

    own = min(cost(flow.run) for _ in range(5))
    loop = min(cost(lambda: [y for y in (abs(x) for x in items) if int(y)]) for _ in range(5))
    assert (own - loop) / len(items) < 1.5e-6


def test_explain_draws_the_flow() -> None:
    flow = (
        Flow.from_iterable([1, 2])
        .map(inverse, on="threads", workers=3, ordered=False)
        .branch(lambda branch: branch.filter(bool).to_jsonl("all.jsonl"))
        .partition(abs)
        .window(count=5)
        .reduce(int, larger)
        .batch(10)
        .call("digits.predict")
        .to_csv("out.csv")
    )
    assert flow.explain().splitlines() == [
        "from_iterable(list of 2)",
        "  │",
        "map(inverse)  on 3 threads, in any order",
        "  │",
        "branch",
        "  ├── filter(bool)",
        "  ├── to_jsonl(all.jsonl)",
        "  │",
        "window(count=5).reduce(larger)  by abs",
        "  │",
        "call(digits.predict)  4 batches of at most 10 in flight",
        "  │",
        "to_csv(out.csv)",
    ]
