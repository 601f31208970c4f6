import numpy as np
import onnx
import onnxruntime
import pytest

from tests.tiny import CLASSES, Tiny, some_images
from workbench.graphs.nan_logits import with_nan_logits


@pytest.mark.parametrize("batch", [None, 4])
def test_every_logit_is_nan_and_the_names_and_shapes_stay(batch, tmp_path):
    graph = Tiny.of().graph(tmp_path, batch=batch)
    content = with_nan_logits(graph.path)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content)
    (logits,) = session.run([graph.output_name], {graph.input_name: some_images(4)})
    assert logits.shape == (4, CLASSES)
    assert np.isnan(logits).all()
