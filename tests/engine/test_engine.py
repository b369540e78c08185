"""The engine against the model itself: equal predictions, less work, and every video answered once."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus_jax.early_exit import ExitPolicy, exit_scores, solve_policy
from adafocus_jax.early_exit.thresholds import EVERYBODY, NOBODY
from adafocus_jax.engine import Engine, Request
from adafocus_jax.engine.openvino_graph import is_installed
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost
from tests.engine.conftest import CLASSES, VIDEOS


def run(engine, requests, policy=None, **arguments):
    """Results by key, each once, and the statistics of this run alone."""
    engine.policy = policy
    engine.reset_stats()
    results = list(engine.run(requests, **arguments))
    by_key = {result.key: result for result in results}
    assert len(by_key) == len(results)
    return by_key


def solved(case, q=1.0, criterion="confidence"):
    """A policy solved on the model's own logits of the exits that count."""
    usable = case.expected.exit_logits[:, -case.engine.num_exits :]
    costs = model_cost(case.model).exit_gflops[-usable.shape[1] :]
    return solve_policy(usable, costs, q, criterion=criterion, calibration_split="train")


@pytest.mark.parametrize("backend", ["xla", "openvino"])
@pytest.mark.parametrize("kind", ["uni", "tsm", "plain"])
def test_exits_that_are_not_asked_for_are_nan_and_the_last_is_the_same(kind, backend, request):
    if backend == "openvino" and not is_installed():
        pytest.skip("needs the extra openvino")
    case = request.getfixturevalue(kind)
    engine = case.make(backend=backend, every_exit=False)
    for number, result in run(engine, map(case.request, range(VIDEOS))).items():
        expected = case.expected.exit_logits[number]
        assert result.logits.shape == expected.shape
        assert np.isnan(result.logits[:-1]).all()
        np.testing.assert_allclose(result.logits[-1], expected[-1], atol=1e-4)
    if kind == "uni":
        all_, last = (each._costs["glance"].parts["glance_classifier"] for each in (case.engine, engine))
        assert all_ - last == 3 * case.model.classifier_hidden * CLASSES
        with pytest.raises(UserError, match="made this engine for the last exit alone"):
            engine.policy = solved(case)


def test_exits_where_videos_may_leave_are_asked_for(uni):
    policy, expected = solved(uni), uni.expected.exit_logits
    first = expected.shape[1] - uni.engine.num_exits
    exits = first + policy.assign(expected[:, first:])
    closed = {*range(first), *(first + np.flatnonzero(np.array(policy.serving) == NOBODY)).tolist()}
    engine = uni.make(policy=policy, every_exit=False)
    for number, result in run(engine, map(uni.request, range(VIDEOS)), policy).items():
        assert result.exit == exits[number]
        passed = expected[number, : result.exit + 1].copy()
        passed[[exit_ for exit_ in closed if exit_ < result.exit]] = np.nan
        np.testing.assert_allclose(result.logits, passed, atol=1e-4)


def test_without_exits_it_says_what_the_model_says(case):
    results = run(case.engine, map(case.request, range(VIDEOS)))
    assert sorted(results) == list(range(VIDEOS))
    for number, result in results.items():
        np.testing.assert_allclose(result.logits, case.expected.exit_logits[number], atol=1e-4)
        assert result.exit == len(result.logits) - 1
        if result.frame_indices is not None:
            np.testing.assert_array_equal(result.frame_indices, case.expected.frame_indices[number])
            np.testing.assert_allclose(result.boxes, case.expected.boxes[number], atol=1e-3)
            np.testing.assert_allclose(result.frame_weights, case.expected.frame_weights[number], atol=1e-5)
    assert (case.engine.glance_indices is None) == (case.expected.glance_indices is None)
    if case.engine.glance_indices is not None:
        np.testing.assert_array_equal(case.expected.glance_indices[0], case.engine.glance_indices)


@pytest.mark.parametrize("criterion", ["confidence", "patience"])
@pytest.mark.parametrize("kind", ["uni", "tsm"])
def test_videos_leave_where_the_policy_says_and_nothing_behind_is_computed(kind, criterion, request):
    case = request.getfixturevalue(kind)
    policy = solved(case, criterion=criterion)
    results = run(case.engine, map(case.request, range(VIDEOS)), policy)
    usable = case.expected.exit_logits[:, -case.engine.num_exits :]
    first = case.expected.exit_logits.shape[1] - usable.shape[1]
    exits = policy.assign(usable)
    assert len(set(exits)) > 1
    cost = model_cost(case.model)
    for number, result in results.items():
        assert result.exit == first + exits[number]
        np.testing.assert_allclose(
            result.logits, case.expected.exit_logits[number, : result.exit + 1], atol=1e-4
        )
        assert result.gflops == cost.exit_gflops[result.exit]
        assert (result.boxes is None) == (result.exit == first)
    stats = case.engine.stats
    assert stats.macs == sum(cost.exits[first + exit_] for exit_ in exits)
    ahead = stats.ahead_rows * case.engine._costs["look"].macs
    assert stats.executed_macs == stats.macs + ahead
    np.testing.assert_allclose(stats.exit_shares[first:], policy.exit_shares)
    assert stats.drift == pytest.approx(0)
    assert stats.as_dict()["videos"] == VIDEOS


@pytest.fixture(scope="module")
def alone(uni):
    """Each clip by itself, at the same bucket sizes."""
    policy = solved(uni, q=0.8)
    return policy, {n: run(uni.engine, [uni.request(n)], policy)[n] for n in range(VIDEOS)}


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(VIDEOS)), st.integers(1, VIDEOS), st.integers(1, 7))
def test_predictions_do_not_depend_on_order_or_neighbours_bit_for_bit(uni, alone, order, count, in_flight):
    policy, expected = alone
    results = run(uni.engine, map(uni.request, order[:count]), policy, max_in_flight=in_flight)
    assert sorted(results) == sorted(order[:count])
    for number, result in results.items():
        np.testing.assert_array_equal(result.logits, expected[number].logits)
        assert result.exit == expected[number].exit
        for name in ("frame_indices", "boxes", "frame_weights"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected[number], name))


@pytest.mark.parametrize("kind", ["uni", "tsm"])
def test_infinite_thresholds_are_no_exit_and_the_glance_alone(kind, request):
    case = request.getfixturevalue(kind)
    exits = case.engine.num_exits
    requests = [case.request(number) for number in range(5)]
    without = run(case.engine, requests)
    never = ExitPolicy("entropy", (NOBODY,) * exits, 1.0, "train", 1, 1.0)
    for number, result in run(case.engine, requests, never).items():
        np.testing.assert_array_equal(result.logits, without[number].logits)
    asked = []
    glance_alone = [Request(n, case.glances[n], lambda indices: asked.append(indices)) for n in range(5)]
    at_once = ExitPolicy("entropy", (EVERYBODY,) * exits, 1.0, "train", 1, 0.1)
    for number, result in run(case.engine, glance_alone, at_once).items():
        np.testing.assert_array_equal(result.logits, without[number].logits[: 1 - exits])
    assert not asked
    stats = case.engine.stats.stages
    assert (stats["choose"].rows, stats["look"].rows) == (0, 0)


def test_other_bucket_sizes_change_the_last_digits_alone(uni, alone):
    policy, expected = alone
    engine = uni.make(buckets={"glance": (1, 2), "choose": (1,), "look": (1, 2)}, max_in_flight=3)
    for number, result in run(engine, map(uni.request, range(6)), policy).items():
        shared = min(len(result.logits), len(expected[number].logits))
        np.testing.assert_allclose(result.logits[:shared], expected[number].logits[:shared], atol=1e-4)
        if result.exit != expected[number].exit:
            scores = exit_scores(np.stack([result.logits, result.logits])[:, 3:], policy.criterion)[0]
            assert min(abs(scores - np.asarray(policy.serving)[: len(scores)])) < 1e-3


# ---- pixels


class Lazy:
    """Pixels on demand, which remember what was asked for, and how many videos hold some."""

    held, most = 0, 0
    lock = threading.Lock()

    def __init__(self, case, number, fail=None):
        self.case, self.number, self.fail, self.asked, self.closed = case, number, fail, [], 0
        with Lazy.lock:
            Lazy.held += 1
            Lazy.most = max(Lazy.most, Lazy.held)

    def glance(self):
        self.asked.append("glance")
        if self.fail == "glance":
            raise OSError("torn")
        return self.case.glances[self.number % VIDEOS]

    def focus(self, indices):
        self.asked.append(tuple(indices))
        if self.fail == "focus":
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(os._exit, 1).result()
        if self.fail == "shape":
            return self.case.clips[self.number % VIDEOS]
        return self.case.clips[self.number % VIDEOS][indices]

    def close(self):
        self.closed += 1
        with Lazy.lock:
            Lazy.held -= 1

    def request(self):
        return Request(self.number, self.glance, self.focus, self.close)


def test_pixels_are_asked_for_once_and_only_of_those_who_stay(uni, alone):
    policy, expected = alone
    videos = [Lazy(uni, number) for number in range(VIDEOS)]
    results = run(uni.engine, [video.request() for video in videos], policy)
    stayed = 0
    for video in videos:
        result = results[video.number]
        np.testing.assert_array_equal(result.logits, expected[video.number].logits)
        chosen = [] if result.boxes is None else [tuple(result.frame_indices)]
        assert video.asked == ["glance", *chosen]
        assert video.closed == 1
        stayed += bool(chosen)
    assert 0 < stayed < VIDEOS


def test_a_broken_video_is_its_own_result_alone(uni):
    fails = {1: "glance", 4: "focus", 6: "shape"}
    videos = [Lazy(uni, number, fails.get(number)) for number in range(8)]
    results = run(uni.engine, [video.request() for video in videos])
    assert sorted(results) == list(range(8))
    assert isinstance(results[1].error, OSError)
    assert isinstance(results[4].error, BrokenProcessPool)
    with pytest.raises(
        UserError, match=r"frames of 6 for the look stage are uint8 \[8, 32, 32, 3\]: give uint8 \[5,"
    ):
        raise results[6].error
    assert all((results[number].error is None) == (number not in fails) for number in range(8))
    assert [video.closed for video in videos] == [1] * 8
    assert uni.engine.stats.errors == 3
    again = run(uni.engine, map(uni.request, range(8)))  # no slot was lost
    assert all(result.error is None for result in again.values())


def test_what_the_requests_raise_comes_after_all_admitted_are_answered(plain):
    def requests():
        yield from map(plain.request, range(6))
        raise ConnectionError("the source is gone")

    answered = []

    def listen():
        for result in plain.engine.run(requests()):
            answered.append(result.key)

    with pytest.raises(ConnectionError, match="the source is gone"):
        listen()
    assert sorted(answered) == list(range(6))


def test_memory_is_bounded_over_many_videos(plain):
    Lazy.held = Lazy.most = 0
    requests = (Lazy(plain, number).request() for number in range(600))
    assert sum(result.error is None for result in plain.engine.run(requests)) == 600
    assert Lazy.held == 0
    assert Lazy.most <= 7 + 1  # in flight, and the one being answered


def test_whoever_stops_listening_leaves_an_engine_that_runs_again(plain):
    endless = (plain.request(number % VIDEOS) for number in iter(int, 1))
    results = plain.engine.run(endless)
    next(results)
    with pytest.raises(UserError, match="running already"):
        next(plain.engine.run([]))
    with pytest.raises(UserError, match="set its policy before or after"):
        plain.engine.policy = None
    results.close()
    assert len(run(plain.engine, map(plain.request, range(3)))) == 3
    assert run(plain.engine, []) == {}


def test_logits_that_are_not_finite_are_an_error(plain):
    variables = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), plain.variables)
    engine = Engine(plain.model, variables, buckets=plain.buckets, devices=jax.devices()[:1])
    (result,) = engine.run([plain.request(0)])
    assert "not finite" in str(result.error)


# ---- programs and devices


compilations = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
)


def test_nothing_is_compiled_after_the_warm_up(uni, plain):
    policy = solved(uni)
    compilations.clear()
    run(uni.engine, map(uni.request, range(VIDEOS)), policy, max_in_flight=3)
    assert not compilations
    plain.make(buckets={"glance": (3,)}).warm_up()
    assert len(compilations) == 1  # the counter counts


def test_videos_are_spread_over_devices(plain):
    engine = plain.make(devices=jax.devices()[:2], buckets={"glance": (1,)})
    results = run(engine, map(plain.request, range(VIDEOS)))
    for number, result in results.items():
        np.testing.assert_allclose(result.logits, plain.expected.exit_logits[number], atol=1e-4)


def test_a_random_control_draws_by_key(uni):
    model = uni.model.clone(spatial="random", temporal="random")
    engine = Engine(model, uni.variables, buckets=uni.buckets, devices=jax.devices()[:1])

    def boxes(numbers):
        return {result.key: result.boxes for result in engine.run(map(uni.request, numbers))}

    first, second = boxes([0, 1, 2]), boxes([2, 0])
    for number in (0, 2):
        np.testing.assert_array_equal(first[number], second[number])
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tensorrt"}, "unknown engine backend='tensorrt': choose one of auto, xla"),
        ({"max_in_flight": 0}, "max_in_flight=0"),
        ({"buckets": {"glance": ()}}, r"buckets\['glance'\]"),
        ({"policy": ExitPolicy("entropy", (1.0, 0.0), 1.0, "train", 1, 1.0)}, "has 2 exits, the model 1"),
    ],
)
def test_bad_arguments_are_one_line(plain, arguments, message):
    with pytest.raises(UserError, match=message):
        plain.make(**arguments)
