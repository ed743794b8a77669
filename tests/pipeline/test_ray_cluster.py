"""Recordings on a Ray cluster: two nodes on this machine, of which one is killed while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixit.pipeline.batch import Job
from pixit.pipeline.dispatch import share_out
from pixit.pipeline.ray_cluster import RayWorkers, judge, share_cores
from pixit.pipeline.workers import Lost, Unfit
from pixit.results import Separation
from pixit.types import PixitError


@pytest.fixture
def two_nodes(mortal: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head and another node, with a core each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False}
    head["_system_config"] = {
        "worker_niceness": 0
    }  # by default 15: beside other tests that is next to nothing
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_killed_node_costs_nothing_but_time(
    two_nodes: Any, mortal: Any, noise: Callable[[str], Path], tmp_path: Path
) -> None:
    """What it was at is done by the other one, and every recording once."""
    out, said, names = tmp_path / "out", list[str](), ["a", "b", "c", "d"]
    (victim,) = two_nodes.worker_nodes
    raylet = str(victim.all_processes["raylet"][0].process.pid)
    mortal.hold(raylet)  # or it may be done before it is killed
    at_work: list[str] = []

    def kill(step: str, artifact: Any, file: Any = None, **_: Any) -> None:
        """Kill the other node once it is known to be at work."""
        if (
            file
            and not at_work
            and any(mine == [file, raylet] for mine in (each[::3] for each in mortal.asked()))
        ):
            at_work.append(file)
            two_nodes.remove_node(victim, allow_graceful=False)

    workers = RayWorkers(mortal.load(together=2), "auto", two_nodes.address, len(names))
    assert (workers.count, workers.num_threads) == (2, 1)
    found = list(share_out(workers, [noise(name) for name in names], Job(out), kill, said.append))
    assert {outcome.uri: outcome.error for outcome in found} == dict.fromkeys(names)
    assert len(found) == len(names)
    assert sorted(uri for uri, *_ in mortal.asked()) == sorted([*names, *at_work])
    assert [line.split(": its worker was lost")[0] for line in said] == [str(noise(uri)) for uri in at_work]
    assert len(at_work) == 1
    assert sorted(path.name for path in out.iterdir()) == names  # and nothing hidden
    for outcome in found:
        assert outcome.elapsed_s is not None  # separated, not found there
        result = Separation.load(out / outcome.uri)
        assert (result.num_samples, result.uri) == (32000, outcome.uri)
        assert result.settings["device"] == "cpu"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"])
def test_a_cluster_that_cannot_be_reached_is_told_in_a_line(address: str, mortal: Any) -> None:
    with pytest.raises(
        PixitError, match=f"^--cluster {address}: cannot be reached .*; expected auto or the HOST"
    ):
        RayWorkers(mortal.load(), "cpu", address)


def test_a_cluster_without_pixit_is_told_and_not_tried_again() -> None:
    from ray.exceptions import RayError

    told = judge(3, RayError("The actor failed to import: ModuleNotFoundError: No module named 'pixit'"))
    assert told == Unfit(
        3, "the cluster's Python has no pixit; run pip install 'pixit-audio[ray]' on all of its machines"
    )
    assert isinstance(judge(3, RayError("Its node has died.")), Lost)


@pytest.mark.parametrize(
    ("nodes", "most", "count", "on_gpu", "expected"),
    [
        ([{"CPU": 4.0}, {"CPU": 4.0}], 100, None, False, (8, 1)),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 2, None, False, (2, 4)),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 1, None, False, (1, 4)),  # none has 8
        ([{"CPU": 4.0}, {"CPU": 4.0}], 3, None, False, (3, 2)),
        ([{"CPU": 2.0}, {"CPU": 7.0}], 100, 2, False, (2, 3)),  # both on the second: not 4, nor 1
        ([{"CPU": 2.0}], 100, 8, False, (8, 1)),  # six wait for other machines
        ([{"memory": 1.0}], 100, 3, False, (3, 1)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 100, None, True, (2, 1)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 100, 4, True, (4, 1)),
    ],
)
def test_cores_are_shared_out(
    nodes: list[dict[str, float]], most: int, count: int | None, on_gpu: bool, expected: tuple[int, int]
) -> None:
    assert share_cores(nodes, most, count, on_gpu) == expected


@pytest.mark.parametrize(("on_gpu", "missing"), [(True, "GPU"), (False, "cores")])
def test_a_cluster_that_has_not_what_is_needed_is_told(on_gpu: bool, missing: str) -> None:
    with pytest.raises(PixitError, match=f"^the cluster has no {missing}; .*--jobs"):
        share_cores([{"memory": 1.0}], 5, None, on_gpu)
