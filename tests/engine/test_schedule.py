"""The schedule against its rules, for any arrivals and decisions."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.engine.schedule import Schedule
from adafocus_jax.errors import UserError

STAGES = ("glance", "choose", "look")
PATIENCE = 5
sizes_of_a_stage = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@st.composite
def worlds(draw):
    exits = draw(st.lists(st.booleans(), min_size=1, max_size=7))
    sizes = {stage: draw(sizes_of_a_stage) for stage in STAGES}
    # For each video, whether it leaves after the glance, and the row of `look` after which it would leave.
    leaves = draw(st.lists(st.tuples(st.booleans(), st.integers(0, len(exits) - 1)), min_size=1, max_size=12))
    return exits, sizes, leaves, draw(st.integers(0, 2**31)), draw(st.integers(1, 2))


class World:
    """Videos that arrive, run and leave; the clock counts arrivals."""

    def __init__(self, exits, sizes, leaves, seed, lanes):
        self.exits, self.sizes, self.leaves, self.lanes = exits, sizes, leaves, lanes
        self.random, self.arrived = random.Random(seed), 0
        self.schedule = Schedule(STAGES, sizes, patience=PATIENCE, exits=exits)
        self.coming = list(range(len(leaves)))
        self.since = {}  # (stage, video) -> when it was put there
        self.ran = {video: [] for video in self.coming}  # rows of look
        self.decided = dict.fromkeys(self.coming, 0)  # rows of look that are known
        self.left, self.running = set(), []

    def add(self, stage, video, row=0):
        self.arrived += stage == "glance"
        self.since[stage, video] = self.arrived
        self.schedule.add(stage, video, row)

    def leaves_at(self, row, video):
        last = len(self.exits) - 1
        return row == last or (self.exits[row] and row >= self.leaves[video][1])

    def check(self, bucket, idle):
        largest = {stage: max(sizes) for stage, sizes in self.sizes.items()}
        assert bucket.size in self.sizes[bucket.stage]
        assert 1 <= len(bucket.rows) <= bucket.size
        smaller = [size for size in self.sizes[bucket.stage] if size < bucket.size]
        assert (
            not smaller or len(bucket.rows) == bucket.size
        )  # padding only where nothing smaller is compiled
        full = len(bucket.rows) == largest[bucket.stage]
        oldest = min(self.since[bucket.stage, video] for video, _ in bucket.rows)
        assert full or idle or self.arrived - oldest >= PATIENCE
        if bucket.stage != "look":
            assert len({video for video, _ in bucket.rows}) == len(bucket.rows)
            return
        for video in dict.fromkeys(video for video, _ in bucket.rows):
            rows, before = [row for v, row in bucket.rows if v == video], self.ran[video]
            assert rows == list(range(len(before), len(before) + len(rows)))  # in order, each once
            ahead = [row for row in rows if any(self.exits[self.decided[video] : row])]
            assert not ahead or (idle and len(rows) <= max(1, 2 * len(before) + len(self.exits)))
            before += rows

    def start(self):
        idle = not self.running
        waiting = {stage for stage, video in self.since if video in self.schedule}
        late = any(
            self.arrived - since >= PATIENCE for key, since in self.since.items() if key[1] in self.schedule
        )
        bucket = self.schedule.next(idle=idle)
        if bucket is None:
            assert not (idle and waiting)  # work-conserving
            assert not late  # nobody waits without end
            return False
        self.check(bucket, idle)
        self.running.append(bucket)
        for video, _ in bucket.rows:
            if video not in self.schedule:
                self.since.pop((bucket.stage, video), None)
        return True

    def collect(self):
        bucket = self.running.pop(0)
        for video in dict.fromkeys(video for video, _ in bucket.rows):
            rows = [row for v, row in bucket.rows if v == video]
            if bucket.stage == "glance":
                self.left.add(video) if self.leaves[video][0] else self.add("choose", video)
            elif bucket.stage == "choose":
                self.add("look", video)
            elif video not in self.left:
                self.decided[video] = rows[-1] + 1
                if any(self.leaves_at(row, video) for row in rows):
                    self.left.add(video)
                    self.schedule.remove(video)
                elif video not in self.schedule and self.decided[video] == len(self.ran[video]):
                    self.add("look", video, self.decided[video])

    def step(self):
        for _ in range(self.random.randrange(3)):
            if self.coming:
                self.add("glance", self.coming.pop())
        if len(self.running) < self.lanes and self.start():
            return
        if self.running:
            self.collect()


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_every_video_is_served_by_the_rules_and_leaves(world):
    world = World(*world)
    for _ in range(2000):
        if len(world.left) == len(world.leaves):
            break
        world.step()
    assert world.left == set(range(len(world.leaves)))
    assert not any(video in world.schedule for video in world.left)


def make(exits=(True,), **sizes):
    sizes = {"glance": [4], "choose": [4], "look": [1, 2, 4, 8], **sizes}
    return Schedule(STAGES, sizes, patience=PATIENCE, exits=exits)


def test_the_deepest_full_bucket_runs_first():
    schedule = make(look=[2])
    for video in range(4):
        schedule.add("glance", video)
    schedule.add("look", 8)
    assert schedule.next(idle=False).stage == "glance"  # look is not full
    for video in range(4):
        schedule.add("glance", video)
    schedule.add("look", 9)
    assert schedule.next(idle=False).rows == ((8, 0), (9, 0))


def test_a_bucket_that_is_passed_over_too_long_goes_first():
    schedule = make(look=[2])
    schedule.add("choose", 0)
    for video in range(1, PATIENCE + 1):
        schedule.add("glance", video)
        for row in range(2):
            schedule.add("look", 100 * video + row)
        bucket = schedule.next(idle=False)
        assert bucket.stage == ("look" if video < PATIENCE else "choose")
    assert (bucket.rows, bucket.size) == (((0, 0),), 4)


def test_nothing_that_is_not_full_runs_beside_another_bucket():
    schedule = make()
    schedule.add("glance", 0)
    assert schedule.next(idle=False) is None
    assert schedule.next(idle=True).rows == ((0, 0),)


def test_one_video_alone_takes_1_2_4_patches():
    schedule, row, taken = make(exits=(True,) * 10), 0, []
    while row < 10:
        schedule.add("look", "v", row)
        taken.append(len(schedule.next(idle=True).rows))
        row += taken[-1]
    assert taken == [1, 2, 4, 2, 1]


def test_without_exits_a_video_is_not_taken_patch_by_patch():
    schedule = make(exits=(False,) * 10)
    schedule.add("look", "v")
    assert [len(schedule.next(idle=True).rows) for _ in range(2)] == [8, 2]
    assert schedule.next(idle=True) is None


def test_a_full_bucket_never_goes_ahead_of_a_decision():
    schedule = make(exits=(True,) * 10, look=[3])
    for video in range(3):
        schedule.add("look", video)
    assert schedule.next(idle=True).rows == ((0, 0), (1, 0), (2, 0))


def test_room_limits_a_stage():
    schedule = make()
    for video in range(4):
        schedule.add("glance", video)
    assert schedule.next(idle=True, room={"glance": 0}) is None
    assert len(schedule.next(idle=True, room={"glance": 3}).rows) == 3


@pytest.mark.parametrize("sizes", [[], [0], [4, -1]])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(UserError, match=r"buckets\['look'\] = .* at least 1"):
        make(look=sizes)
