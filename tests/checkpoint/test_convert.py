import json

import jax
import numpy as np
import pytest

from adafocus_jax.checkpoint.convert import convert_state_dict, count_classes, to_state_dict
from adafocus_jax.checkpoint.rules import encoder_names
from adafocus_jax.errors import UserError
from adafocus_jax.models import create_model, init_variables
from adafocus_jax.models.layers import BatchNorm
from adafocus_jax.models.mobilenet_v2 import MobileNetV2
from adafocus_jax.models.resnet import ResNet
from adafocus_jax.models.x3d import X3D, X3D_L

IMAGENET = ("global_CNN.classifier.", "local_CNN.fc.")


def random_tensors(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape, dtype=np.float32) if shape else np.zeros((), np.int64)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def released(golden_dir):
    return lambda name: json.loads((golden_dir / f"{name}.state_dict.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tiny():
    return create_model("uni_adafocus_tiny", num_classes=5)


@pytest.fixture(scope="module")
def tiny_state(tiny):
    shapes = jax.eval_shape(lambda: init_variables(tiny, jax.random.key(0)))
    leaves, structure = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(leaf.shape, dtype=np.float32) for leaf in leaves]
    return to_state_dict(structure.unflatten(arrays), tiny)


@pytest.mark.parametrize(
    ("name", "num_classes"), [("uni_adafocus", 200), ("uni_adafocus_tsm", 174), ("uni_adafocus_x3d", 400)]
)
def test_released_names_come_in_and_go_out_again(released, name, num_classes):
    shapes = released(name)
    state_dict = random_tensors(shapes)
    model = create_model(name, num_classes=num_classes)
    variables = convert_state_dict({f"module.{key}": value for key, value in state_dict.items()}, model)
    back = to_state_dict(variables, model)  # which also checks their structure against the model's
    assert {key: list(value.shape) for key, value in back.items()} == shapes
    differing = {key for key in shapes if not np.array_equal(back[key], state_dict[key])}
    assert differing == {key for key in shapes if key.startswith(IMAGENET) and name == "uni_adafocus"}


@pytest.mark.parametrize(
    ("name", "prefix", "encoder", "head"),
    [
        ("uni_adafocus", "global_CNN.", MobileNetV2(), "classifier."),
        ("uni_adafocus", "local_CNN.", ResNet(), "fc."),
        ("uni_adafocus_x3d", "global_CNN.", X3D(), "head.lin_5. head.projection."),
        ("uni_adafocus_x3d", "local_CNN.", X3D(settings=X3D_L), "head.lin_5. head.projection."),
    ],
)
def test_backbone_alone(released, name, prefix, encoder, head):
    shapes = {k.removeprefix(prefix): s for k, s in released(name).items() if k.startswith(prefix)}
    state_dict = random_tensors(shapes)
    back = to_state_dict(convert_state_dict(state_dict, encoder), encoder)
    assert all(np.array_equal(back[key], state_dict[key]) for key in back)
    assert all(key.startswith(tuple(head.split())) for key in shapes.keys() - back.keys())


def test_mobilenet_v2_of_timm_is_that_of_torchvision():
    # torchvision's name → timm's, as both code bases print them
    pairs = {
        "features.0.0": "conv_stem",
        "features.0.1": "bn1",
        "features.1.conv.0.0": "blocks.0.0.conv_dw",
        "features.1.conv.2": "blocks.0.0.bn2",
        "features.3.conv.0.0": "blocks.1.1.conv_pw",
        "features.7.conv.1.1": "blocks.3.0.bn2",
        "features.17.conv.2": "blocks.6.0.conv_pwl",
        "features.18.1": "bn2",
    }
    _, torchvision, timm = encoder_names(MobileNetV2())
    layers = [f"{layer}{end}" for layer in ("expand", "depthwise", "project") for end in ("", "_bn")]
    paths = [f"block{i}/{layer}" for i in range(1, 18) for layer in layers if i > 1 or "expand" not in layer]
    paths += ["stem", "stem_bn", "last", "last_bn"]

    def name(rules, path):
        return next(filter(None, (rule.name_of(path) for rule in rules)))

    found = {name(torchvision.rules, path): name(timm.rules, path) for path in paths}
    assert len(set(found.values())) == len(found) == len(paths)
    assert pairs.items() <= found.items()


def test_a_part_of_a_model_ignores_the_backbones_own_head(tiny, tiny_state, caplog):
    prefix = "local_CNN."
    part = {k.removeprefix(prefix): v for k, v in tiny_state.items() if k.startswith(prefix)}
    with caplog.at_level("INFO", "adafocus_jax"):
        variables = convert_state_dict(part, tiny, part="local_encoder")
    whole = convert_state_dict(tiny_state, tiny)
    for kind in ("params", "batch_stats"):
        assert variables[kind].keys() == {"local_encoder"}
        jax.tree.map(
            np.testing.assert_array_equal, variables[kind]["local_encoder"], whole[kind]["local_encoder"]
        )
    assert "ignored" in caplog.text
    assert {"fc.weight", "bn1.num_batches_tracked"} <= part.keys()


@pytest.fixture(scope="module")
def x3d_state():
    """Of an X3D encoder trained on 5 classes, by SlowFast's names."""
    model = create_model("x3d_tiny", num_classes=5)
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return random_tensors({name: array.shape for name, array in to_state_dict(zeros, model).items()})


@pytest.mark.parametrize(
    ("name", "part", "heads"),
    [
        ("uni_adafocus_x3d_tiny", "global_encoder", {"global_final_head", "global_head"}),
        ("uni_adafocus_x3d_tiny", "local_encoder", {"local_final_head", "local_head"}),
        ("x3d_tiny", "encoder", {"classifier"}),
    ],
)
def test_the_head_of_x3d_comes_along_as_far_as_it_fits(x3d_state, caplog, name, part, heads):
    with caplog.at_level("INFO", "adafocus_jax"):
        same, other = (
            convert_state_dict(x3d_state, create_model(name, num_classes=k), part)["params"] for k in (5, 7)
        )
    assert same.keys() == other.keys() == {part, *heads}
    for head in heads:
        hidden = np.squeeze(x3d_state["head.lin_5.weight"]).T
        np.testing.assert_array_equal(same[head]["hidden"]["kernel"], hidden)
        np.testing.assert_array_equal(same[head]["logits"]["kernel"], x3d_state["head.projection.weight"].T)
        np.testing.assert_array_equal(same[head]["logits"]["bias"], x3d_state["head.projection.bias"])
        assert other[head].keys() == {"hidden"}
        assert (
            f"the classifier initialises a head: head.lin_5.weight to params/{head}/hidden/kernel"
            in caplog.text
        )
    assert (
        "not used of the classifier: head.projection.bias is [5], the model wants [7]; head.projection.w"
        in caplog.text
    )


def with_change(state, change):
    return {key: value for key, value in {**state, **change}.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"local_CNN.bn1.weight": None}, "1 missing (local_CNN.bn1.weight)"),
        ({"optimizer": np.zeros(1)}, "1 left over (optimizer)"),
        (
            {"aux_fc.weight": np.zeros((5, 63))},
            "1 of another shape (aux_fc.weight is [5, 63], the model wants [5, 64])",
        ),
        (
            {"classifier.local_classifiers.3.1.weight": np.zeros((5, 256))},
            "left over (classifier.local_classifiers.3.1.weight)",
        ),
    ],
)
def test_each_difference_is_named(tiny, tiny_state, change, message):
    with pytest.raises(UserError) as error:
        convert_state_dict(with_change(tiny_state, change), tiny)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_many_differences_are_counted(tiny, tiny_state):
    few = {key: value for key, value in tiny_state.items() if not key.startswith("temporal_policy")}
    with pytest.raises(UserError, match=r"11 missing \(temporal_policy.*, .*, .* and 8 more\)"):
        convert_state_dict(few, tiny)


def test_another_class_count_is_said(tiny_state):
    with pytest.raises(UserError, match="it has 5 classes, the model 7; 28 of another shape"):
        convert_state_dict(tiny_state, create_model("uni_adafocus_tiny", num_classes=7))
    assert count_classes(tiny_state) == 5


@pytest.mark.parametrize("variant", ["uni_adafocus_tsm", "uni_adafocus_x3d"])
def test_another_variant_is_said(released, tiny, variant):
    state_dict = {name: np.broadcast_to(np.float32(0), shape) for name, shape in released(variant).items()}
    with pytest.raises(UserError, match=f"it belongs to {variant}, the model is uni_adafocus; "):
        convert_state_dict(state_dict, tiny)
    with pytest.raises(UserError, match=f"it belongs to a whole {variant}, not to an encoder"):
        convert_state_dict(state_dict, tiny, part="local_encoder")


def test_an_encoder_where_a_model_is_expected_is_said(tiny):
    with pytest.raises(UserError, match="say which part"):
        convert_state_dict({"conv1.weight": np.zeros((64, 3, 7, 7))}, tiny)
    with pytest.raises(UserError, match="no part 'classifier': choose global_encoder or local_encoder"):
        convert_state_dict({}, tiny, part="classifier")


def test_a_layer_without_a_name_in_pytorch_is_said():
    with pytest.raises(UserError, match="no PyTorch names are known for BatchNorm"):
        convert_state_dict({}, BatchNorm())


def test_variables_of_another_model_do_not_go_out(tiny, tiny_state):
    variables = convert_state_dict(tiny_state, tiny)
    with pytest.raises(UserError, match="another model"):
        to_state_dict(variables, create_model("uni_adafocus_tiny", num_classes=7))
