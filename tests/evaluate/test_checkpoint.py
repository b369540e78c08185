import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.checkpoint import check_classes


@pytest.mark.parametrize("data", [("run", "jump"), ("run",), ("class 0", "class 1")])
def test_the_same_classes_and_those_without_names_are_evaluated(data, caplog):
    check_classes(data, ("run", "jump"))
    assert len(caplog.messages) == (data[0] == "class 0")


def test_a_checkpoint_without_names_takes_those_of_the_data_with_a_warning(caplog):
    check_classes(("run", "jump"), ("class 0", "class 1"))
    (said,) = caplog.messages
    assert "the classes of the checkpoint have no names: taken to be those of the data" in said
    assert "--classes FILE" in said


@pytest.mark.parametrize(
    ("data", "checkpoint", "message"),
    [
        (("jump", "run"), ("run", "jump"), "class 0 is 'jump' in the data and 'run' in the checkpoint"),
        (("run", "jump", "sit"), ("run", "jump"), "the data has 3 classes, the checkpoint 2"),
        (("run",), ("class 0", "class 1"), "class 0 is 'run' in the data and 'class 0' in the checkpoint"),
    ],
)
def test_other_classes_are_refused(data, checkpoint, message):
    with pytest.raises(UserError, match=message):
        check_classes(data, checkpoint)
