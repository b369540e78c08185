from pathlib import Path

import jax
import pytest
from flax.traverse_util import flatten_dict

from adafocus_jax.config import (
    FREE_KEYS,
    base_config,
    clip_spec,
    for_classes,
    load_config,
    loss_function,
    make_model,
    optimizer_options,
    train_options,
)
from adafocus_jax.data.batches.sources import open_data
from adafocus_jax.errors import UserError
from adafocus_jax.losses import LOSS_WEIGHTS
from adafocus_jax.models import init_variables
from adafocus_jax.train.optimizer import assign_groups

CONFIGS = Path(__file__).parents[1] / "configs"
DATA = "--config.data.dir=records"


@pytest.fixture
def demo() -> dict:
    return load_config(str(CONFIGS / "demo.py"), [DATA])


def parameters(settings):
    model = make_model(for_classes(settings, ["a", "b"]))
    return jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))["params"]


def test_the_base_is_the_published_recipe(tmp_path):
    file = tmp_path / "base.py"
    file.write_text("from adafocus_jax.config import base_config as get_config\n")
    settings = load_config(str(file), [DATA])
    options = optimizer_options(settings)
    assert (options.learning_rate, options.reference_batch_size, options.weight_decay) == (0.002, 32, 2e-4)
    assert (options.momentum, options.clip_norm, options.warmup_frac) == (0.9, None, 0.0)
    groups = assign_groups(parameters(settings), options.groups)
    factors = {
        name: {options.groups[index].factor for index in jax.tree.leaves(part)}
        for name, part in groups.items()
    }
    assert factors == {
        "global_encoder": {0.5},
        "global_head": {0.5},
        "proxy_head": {0.5},
        "spatial_policy": {0.2},
        "temporal_policy": {0.2},
        "local_encoder": {1.0},
        "local_head": {1.0},
        "classifier": {20.0},
    }
    assert loss_function(settings).keywords == {"weights": dict(LOSS_WEIGHTS)}
    assert (options.name, options.arguments, options.decay_steps) == ("sgd", {}, 0)
    assert train_options(settings, num_examples=10_024).num_steps == 50 * 10_024 // 32
    model = make_model(for_classes(settings, ["a"] * 200))
    assert (model.num_glance, model.num_candidates, model.num_focus, model.patch_size) == (16, 48, 16, 128)


def test_flags_change_values_of_any_depth(tmp_path):
    flags = [
        DATA,
        "--config.optimizer.lr=1",
        "--config.optimizer.groups.spatial_policy.factor=0.5",
        "--config.model.side_limits=(0.25,0.5)",
        "--config.data.flip=false",
        "--config.train.epochs=0.5",
        "--config.train.steps=0",
    ]
    settings = load_config(str(CONFIGS / "demo.py"), flags)
    factors = {group.pattern: group.factor for group in optimizer_options(settings).groups}
    assert factors["spatial_policy/.*"] == 0.5
    assert settings["optimizer"]["lr"] == 1.0
    assert make_model(for_classes(settings, ["a", "b"])).side_limits == (0.25, 0.5)
    assert not clip_spec(settings, make_model(for_classes(settings, ["a", "b"]))).flip
    assert train_options(settings, 64).num_steps == 2
    assert Path(settings["data"]["dir"]) == Path("records").absolute()


def test_mirrored_clips_may_change_their_class():
    flags = [DATA, "--config.data.flip=True", "--config.data.flip_labels=True"]
    settings = load_config(str(CONFIGS / "demo.py"), flags)
    completed = for_classes(settings, ["to the left", "to the right", "up"])
    assert clip_spec(completed, make_model(completed)).flip_labels == (1, 0, 2)
    with pytest.raises(UserError, match="choose fail or skip"):
        load_config(str(CONFIGS / "demo.py"), [DATA, "--config.data.on_bad_record=ignore"])


def test_a_variant_reaches_the_config_file():
    tiny = load_config(f"{CONFIGS / 'custom.py'}:tiny", [DATA])
    assert tiny["model"]["image_size"] == 96
    with pytest.raises(UserError, match=r"custom\.py:huge: unknown variant 'huge'"):
        load_config(f"{CONFIGS / 'custom.py'}:huge", [DATA])


def test_groups_keep_their_order(tmp_path):
    """The first that matches takes a parameter, so the order of the file must survive."""
    names = [
        group.pattern for group in optimizer_options(load_config(str(CONFIGS / "demo.py"), [DATA])).groups
    ]
    assert names == [group.pattern for group in base_config().optimizer.groups.values()]
    assert names != sorted(names)


def test_layer_factors_stand_in_front_of_the_groups(demo):
    factors = "--config.optimizer.layer_factors=local_encoder/conv1/.*=0.1 .*_encoder/.*=0.3"
    options = optimizer_options(load_config(str(CONFIGS / "demo.py"), [DATA, factors]))
    assert options.groups[2:] == optimizer_options(demo).groups
    assigned = assign_groups(parameters(demo), options.groups)
    found = {name: set(jax.tree.leaves(part)) for name, part in assigned["local_encoder"].items()}
    assert found.pop("conv1") == {0}
    assert set.union(*found.values()) == {1}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.optimizer.lrr=1", "unknown config key 'optimizer.lrr': Did you mean \"lr\""),
        ("--config.nonsense=1", "unknown config key 'nonsense': choose among data, init, loss, model"),
        ("--config.seed.deep=1", "unknown config key 'seed.deep'"),
        ("--config.train.batch_size=1.5", "config.train.batch_size=1.5: invalid literal"),
        ("--config.optimizer.lr=fast", "config.optimizer.lr=fast: could not convert string to float: 'fast'"),
        ("--config.optimizer.lr=0", "config.optimizer.lr=0.0 is not valid: give a number above 0"),
        ("--config.train.batch_size=0", "config.train.batch_size=0 is not valid: give 1 or more"),
        ("--config.optimizer.warmup_frac=2", "is not valid: give a number from 0 to 1"),
        (
            "--config.optimizer.groups.glance.factor=-1",
            "groups.glance.factor=-1.0 is not valid: give 0 or more",
        ),
        ("--config.model.side_limits=0.5", "side_limits=.* give the smallest and the largest side"),
        ("--config.train.parallel=mpi", "choose pmap or shard_map"),
        ("--config.train.on_nan=ignore", "choose stop or skip"),
        ("--config.optimizer.layer_factors=a=fast", "layer_factors='a=fast' is not valid: give REGEX=FACTOR"),
        ("--config.optimizer.name=sdg", "'sdg' is not valid: choose among sgd, adagrad"),
        ("--config.optimizer.decay_steps=-1", "decay_steps=-1 is not valid: give 0 or more"),
        ("--config.train.evaluators=('robust',)", "is not valid: choose among classification"),
        ("--config.loss.weights.kl=-1", "loss weight kl=-1.0 is not valid: give 0 or more"),
        (
            "--config.plugins=('nowhere.encoders',)",
            "no plugin 'nowhere.encoders': install it, or add its folder",
        ),
        ("lr=1", "unknown argument 'lr=1': change the config with --config.KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_clear_line(flag, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(str(CONFIGS / "demo.py"), [DATA, flag])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "KeyError: 'get_config'"),
        ("def get_config(): return 3", "returns no ConfigDict"),
        (
            "from adafocus_jax.config import base_config\n"
            "def get_config():\n    config = base_config()\n    config.train.step = 3\n    return config",
            'AttributeError: .*Did you mean "steps" instead of "step"',
        ),
    ],
)
def test_a_config_file_that_does_not_load_says_why(tmp_path, text, message):
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(UserError, match=f"config {file} does not load: .*{message}") as caught:
        load_config(str(file), [DATA])
    assert "\n" not in str(caught.value)


def test_only_what_reads_data_asks_for_them():
    data = load_config(str(CONFIGS / "demo.py"))["data"]
    with pytest.raises(UserError, match="no data: give data=DIR"):
        open_data(data["dir"], data["train_split"])


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"no such config file: 'nowhere\.py'"):
        load_config("nowhere.py:tiny")


def test_classes_come_from_the_data_and_must_agree(demo):
    settings = for_classes(demo, ("x", "y", "z"))
    assert settings["classes"] == ["x", "y", "z"]
    assert make_model(settings).num_classes == 3
    wrong = load_config(str(CONFIGS / "demo.py"), [DATA, "--config.model.num_classes=4"])
    with pytest.raises(UserError, match=r"num_classes is 4, but .*records has 3 classes: leave it at 0"):
        for_classes(wrong, ("x", "y", "z"))


def test_synchronised_norm_names_the_axis_of_the_step(demo):
    demo["train"]["sync_batch_norm"] = True
    assert make_model(for_classes(demo, ["a", "b"])).norm.keywords == {"axis_name": "batch"}


def test_free_keys_exist(demo):
    for path in FREE_KEYS:
        assert path in flatten_dict(demo, sep=".")
