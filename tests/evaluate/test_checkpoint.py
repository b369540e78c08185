import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.evaluate.checkpoint import CheckpointEvaluator, check_classes
from adafocus_jax.evaluate.predict import Predictions


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


def test_another_backend_is_compared_with_xla(monkeypatch):
    def predictions(*classes):
        logits = np.eye(3, dtype=np.float32)[list(classes)][:, None]
        rest = dict.fromkeys(("frame_weights", "glance_indices", "frame_indices", "boxes"), np.zeros((3, 1)))
        return Predictions(np.arange(3), np.array([[0], [1], [2]]), logits, **rest)

    asked = []

    def predict(self, source, what):
        asked.append((self.backend, self.precision))
        return predictions(0, 1, 2)

    monkeypatch.setattr(CheckpointEvaluator, "predict", predict)
    evaluator = CheckpointEvaluator(None, {}, None, (), backend="openvino", precision="bfloat16")
    found = evaluator.compared_to_xla(None, predictions(0, 2, 2))
    assert found == {"changed": 1, "top1": 100.0, "logit_error": 1.0}
    assert asked == [("xla", "float32")]
    with pytest.raises(UserError, match="precision='bfloat16' needs backend='openvino'"):
        CheckpointEvaluator(None, {}, None, (), precision="bfloat16")._predict_function(None)
