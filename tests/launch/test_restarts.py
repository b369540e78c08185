from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus_jax.errors import UserError
from adafocus_jax.launch.commands import after_all, check_command, for_process, newest_step, workdir_of
from adafocus_jax.launch.restarts import Restarts
from adafocus_jax.launch.slices import GENERATIONS, find_slice


@pytest.mark.parametrize(
    ("statuses", "action", "worker"),
    [
        ({0: 0, 1: 0}, "done", None),
        ({0: 75, 1: 2}, "stop", 1),  # the user error is the cause, the lost peer its consequence
        ({0: 75, 1: 1}, "stop", 1),
        ({0: 130, 1: 143}, "stop", 0),
        ({0: 75, 1: 137}, "restart", 1),
        ({0: 134, 1: 75}, "restart", 0),
        ({0: 143, 1: 0}, "restart", 0),
        ({0: 139}, "restart", 0),
    ],
)
def test_what_statuses_mean(statuses, action, worker):
    decision = Restarts().decide(statuses, step=0)
    assert (decision.action, decision.worker) == (action, worker)


@given(st.lists(st.tuples(st.sampled_from([75, 134, 137, 143]), st.integers(0, 3)), max_size=30))
def test_a_run_gives_up_after_failures_without_progress_and_never_for_preemptions(ends):
    restarts, failures, best = Restarts(limit=2), 0, -1
    for status, step in ends:
        if step > best:
            best, failures = step, 0
        failures += status != 143
        expected = "stop" if failures > 2 else "restart"
        assert restarts.decide({0: status}, step).action == expected
        if expected == "stop":
            return


def test_a_negative_limit_is_refused():
    with pytest.raises(UserError, match="max_restarts=-1"):
        Restarts(-1)


def test_commands_know_of_each_other_as_they_can(tmp_path):
    train = ["train", "--workdir", str(tmp_path)]
    assert for_process(train, 1, 2, "h:1") == [
        *train,
        "--coordinator",
        "h:1",
        "--num-processes",
        "2",
        "--process-id",
        "1",
    ]
    assert for_process(train, 0, 1, "h:1") == train
    assert for_process(["sweep", "d"], 1, 2, "") == ["sweep", "d"]
    assert after_all(["prepare", "jester"], 2) == ["prepare", "jester", "--finalize"]
    assert after_all(train, 2) is None
    assert workdir_of(["train", "--from-run", "runs/mine"]) == Path("runs/mine-again")
    assert for_process(["evaluate"], 0, 2, "h:1")[1:3] == ["--coordinator", "h:1"]
    with pytest.raises(UserError, match="plan runs in one process"):
        for_process(["plan"], 0, 2, "")
    with pytest.raises(UserError, match="'trian' cannot be launched"):
        check_command(["trian"])
    with pytest.raises(UserError, match="nothing cannot be launched"):
        check_command([])


def test_the_newest_step_is_that_of_whole_checkpoints(tmp_path):
    assert newest_step(None) == newest_step(tmp_path) == -1
    for name in ("5", "20", "30.orbax-checkpoint-tmp", "damaged-40"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_step(tmp_path) == 20
    assert workdir_of(["train", "--workdir=a b"]).as_posix() == "a b"
    assert workdir_of(["train", "--workdir"]) is None


@pytest.mark.parametrize(
    ("name", "nodes", "vms", "topology"),
    [
        ("v4-128", 16, 16, "4x4x4"),
        ("v5p-128", 16, 16, "4x4x4"),
        ("v5litepod-64", 16, 16, "8x8"),
        ("v6e-64", 16, 16, "8x8"),
        ("v6e-8", 2, 1, "2x4"),
        ("v6e-1", 1, 1, "1x1"),
        ("v4-8", 1, 1, "2x2x1"),
    ],
)
def test_slices_are_those_of_google(name, nodes, vms, topology):
    found = find_slice(name)
    assert (found.nodes, found.vm_hosts, found.topology) == (nodes, vms, topology)


def test_every_topology_has_its_number_of_chips():
    for generation in GENERATIONS.values():
        for chips, topology in generation.topologies.items():
            product = 1
            for side in topology.split("x"):
                product *= int(side)
            assert product == chips


@pytest.mark.parametrize("name", ["v6e-3", "v4-7", "v9-8", "v6e", ""])
def test_unknown_slices_are_refused_with_those_that_are(name):
    with pytest.raises(UserError, match="type="):
        find_slice(name)
