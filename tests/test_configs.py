"""Every file in configs/ and every variant: it builds, costs what its docstring says, and traces a training step."""

import ast
import json
import re
from functools import cache
from itertools import product
from pathlib import Path

import jax
import pytest

from adafocus_jax.config import (
    batch_shapes,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
)
from adafocus_jax.errors import UserError
from adafocus_jax.flops import ModelCost, model_cost
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.models.two_exit import TwoExitAdaFocus
from adafocus_jax.train.optimizer import make_optimizer
from adafocus_jax.train.state import create_state
from adafocus_jax.train.step import make_train_step

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(path.stem for path in CONFIGS.glob("*.py"))
DOCS = {name: ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text())) for name in FILES}
CLAIM = re.compile(r"^ {4}([pf]\d+\S*) +(\d+\.\d)\b", re.MULTILINE)
CLAIMS = [(name, *claim) for name, text in DOCS.items() for claim in CLAIM.findall(text)]
PATCHES = ("p96", "p128", "p160", "p192")
PATCHES_AND_FRAMES = ("p96", "f16", *map(",".join, product(PATCHES[:2], ("f8", "f12", "f16"))))
VARIANTS = {
    "custom": ("tiny",),
    **dict.fromkeys(["activitynet", "fcvid", "mini_kinetics"], PATCHES),
    **dict.fromkeys(["something_v1", "something_v2", "jester"], PATCHES_AND_FRAMES),
}
CASES = [(name, variant) for name in FILES for variant in ("", *VARIANTS.get(name, ()))]
HEADS = ("num_classes", "dropout", "head_dropout")
SIZES = (*HEADS, "num_candidates", "num_focus", "patch_size")
# lr, batch, weight decay, norm ratio; factors of glance, policies, classifier; dropouts; clip, flip, classes, metric
PUBLISHED = {
    "activitynet": (0.002, 32, 2e-4, 1.0, 0.5, 0.2, 20, 0.2, 0.2, None, True, 200, "mAP"),
    "fcvid": (0.004, 64, 1e-4, 1.0, 0.5, 0.2, 20, 0.2, 0.2, None, True, 239, "mAP"),
    "mini_kinetics": (0.003, 48, 1e-4, 0.75, 0.5, 0.2, 20, 0.2, 0.1, None, True, 200, "top1"),
    "something_v1": (0.02, 64, 1e-3, 0.5, 0.5, 0.2, None, 0.5, 0.5, 20, False, 174, "top1"),
    "something_v2": (0.02, 64, 5e-4, 0.5, 0.5, 0.2, None, 0.5, 0.5, 20, False, 174, "top1"),
    "jester": (0.02, 64, 1e-3, 0.25, 0.5, 0.2, None, 0.5, 0.5, 20, False, 27, "top1"),
    "kinetics400": (0.005, 64, 5e-5, 0.5, 0.5, 0.4, None, 0.5, 0.5, 20, True, 400, "top1"),
}


def load(name, variant=""):
    settings = load_config(f"{CONFIGS / name}.py:{variant}")
    return for_classes(settings, [str(k) for k in range(settings["model"]["num_classes"] or 3)])


def model_without(settings, names) -> str:
    """The model's settings but those, as a key of a cache: tracing takes seconds."""
    return json.dumps({key: value for key, value in settings["model"].items() if key not in names})


@cache
def params_of(family: str):
    """Of default sizes, which change no name of a parameter."""
    model = create_model(**json.loads(family), num_classes=3)
    return jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))["params"]


@cache
def cost_of(model: str) -> ModelCost:
    """Of 200 classes: what heads cost is below the digits that are claimed."""
    return model_cost(create_model(**json.loads(model), num_classes=200))


def optimizer_of(settings):
    options = optimizer_options(settings)
    batch_size = settings["train"]["batch_size"]
    return make_optimizer(
        options, params_of(model_without(settings, SIZES)), num_steps=9, batch_size=batch_size
    )


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_builds_in_silence(name, variant, capfd):
    settings = load(name, variant)
    assert json.loads(json.dumps(settings)) == settings
    model = make_model(settings)
    assert clip_spec(settings, model).num_candidates == model.num_candidates
    for word in filter(None, variant.replace("tiny", "").split(",")):
        assert {"p": model.patch_size, "f": model.num_focus}[word[0]] == int(word[1:])
    if isinstance(model, TwoExitAdaFocus):
        assert model.num_candidates == 3 * model.num_focus
    optimizer_of(settings)  # every parameter has a group, every group a parameter
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "variant", "gflops"), CLAIMS)
def test_costs_what_it_says(name, variant, gflops):
    cost = cost_of(model_without(load(name, variant), HEADS))
    assert f"{cost.exits[-1] / 1e9:.1f}" == gflops


def test_every_documented_variant_is_tried():
    assert {claim[:2] for claim in CLAIMS} <= set(CASES)
    assert {name for name, _, _ in CLAIMS} == VARIANTS.keys() - {"custom"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_is_the_published_recipe(name):
    settings = load(name)
    model, optimizer, train = settings["model"], settings["optimizer"], settings["train"]
    factors = {name: group["factor"] for name, group in optimizer["groups"].items()}
    assert PUBLISHED[name] == (
        *(optimizer["lr"], optimizer["reference_batch_size"], optimizer["weight_decay"]),
        *(settings["loss"]["weights"]["norm"], factors["glance"], factors["spatial_policy"]),
        *(factors.get("classifier"), model["dropout"], model["head_dropout"]),
        *(
            optimizer["clip_norm"] or None,
            settings["data"]["flip"],
            model["num_classes"],
            train["best_metric"],
        ),
    )
    assert factors["temporal_policy"] == factors["spatial_policy"]
    assert (factors["focus"], factors["proxy"]) == (1.0, factors["glance"])
    assert train["batch_size"] == optimizer["reference_batch_size"]
    assert (train["epochs"], optimizer["momentum"], optimizer["warmup_frac"]) == (50, 0.9, 0)


@pytest.mark.parametrize("name", {model_without(load(name), SIZES): name for name in FILES}.values())
def test_a_training_step_traces_in_silence(name, capfd):
    """One of each family: the others differ from it in sizes and rates."""
    settings = load(name)
    model, optimizer = make_model(settings), optimizer_of(settings)
    step = make_train_step(model, optimizer, loss_function(settings), seed=0, parallel="shard_map")
    batch = batch_shapes(clip_spec(settings, model), settings["train"]["batch_size"])
    jax.eval_shape(step.run, jax.eval_shape(lambda: create_state(model, optimizer.transform, 0)), batch)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("p100", r"v1\.py:p100: unknown variant 'p100': choose among p96, p128, f8, f12, f16, with commas"),
        ("p96,", "unknown variant ''"),
        ("p96,f8,p128", "variant 'p96,f8,p128': choose only one of p96, p128"),
    ],
)
def test_a_variant_that_is_none_is_named(variant, message):
    with pytest.raises(UserError, match=message):
        load("something_v1", variant)
