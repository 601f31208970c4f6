"""Configs as their publishers wrote them, and the presets that say the same."""

import json
import re

import pytest

from workbench.datasets import preprocessing
from workbench.datasets.published_preprocessing import read_preprocessing
from workbench.errors import WorkbenchError
from workbench.records import Preprocessing

HALF, IMAGENET = [0.5] * 3, {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
#: Name of a model -> its preprocessor_config.json, and the preset.
HUGGING_FACE = {
    "google/vit-base-patch16-224": (
        {"do_normalize": True, "do_resize": True, "image_mean": HALF, "image_std": HALF, "size": 224},
        Preprocessing(224, layout="NCHW"),
    ),
    "facebook/dinov2-base": (
        {"crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True, **IMAGENET,
         "do_normalize": True, "do_rescale": True, "do_resize": True, "image_processor_type": "BitImageProcessor",
         "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}},
        preprocessing.dinov2(),
    ),
    "openai/clip-vit-base-patch32": (
        {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, **OPENAI,
         "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 224},
        preprocessing.clip(),
    ),
    "google/siglip-base-patch16-224": (
        {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": HALF, "image_std": HALF,
         "image_processor_type": "SiglipImageProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
         "size": {"height": 224, "width": 224}},
        preprocessing.siglip(),
    ),
}  # fmt: skip
#: Name of a model -> its pretrained_cfg, and the preset.
TIMM = {
    "vit_base_patch16_224.augreg_in21k_ft_in1k": (
        {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
         "mean": HALF, "std": HALF, "num_classes": 1000},
        preprocessing.augreg(224),
    ),
    "vit_base_patch16_clip_224.openai": (
        {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
         "mean": OPENAI["image_mean"], "std": OPENAI["image_std"]},
        preprocessing.clip(),
    ),
}  # fmt: skip


def close(found: Preprocessing, expected: Preprocessing) -> bool:
    same = [(a, b) for a, b in zip(vars(found).values(), vars(expected).values()) if not isinstance(a, tuple)]
    numbers = zip((*found.mean, *found.std), (*expected.mean, *expected.std))
    return all(a == b for a, b in same) and all(abs(a - b) < 1e-3 for a, b in numbers)


@pytest.mark.parametrize(("config", "expected"), HUGGING_FACE.values(), ids=HUGGING_FACE)
def test_hugging_faces_config_is_read_from_a_file_or_its_folder(config, expected, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    for source in (tmp_path, str(tmp_path / "preprocessor_config.json"), config):
        found = read_preprocessing(source)
        # the shorter edge at the size of the crop is the size itself
        assert close(found, expected), (found, expected)


@pytest.mark.parametrize(("config", "expected"), TIMM.values(), ids=TIMM)
def test_timms_config_is_read_alone_or_inside_the_models(config, expected, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit", "pretrained_cfg": config}))
    assert close(read_preprocessing(config), expected)
    assert close(read_preprocessing(tmp_path), expected)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden_size": 768}, "does not say how images are prepared"),
        ({"input_size": [3, 224, 192]}, "square"),
        ({"input_size": [1, 224, 224]}, "three channels"),
        ({"input_size": "224"}, "input_size in .* must be a list"),
        ({"input_size": [3, 224, 224], "crop_mode": "border"}, "crop_mode"),
        ({"size": {"height": 224, "width": 192}}, "not square"),
        ({"size": 224, "do_pad": True}, "do_pad"),
        ({"size": 224, "resample": 9}, "resample"),
        ({"size": 224, "image_mean": [0.5]}, "image_mean"),
        ({"do_resize": True}, "size of the images"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_its_key(config, says):
    with pytest.raises(WorkbenchError) as error:
        read_preprocessing(config)
    assert re.search(says, str(error.value))


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000])
def test_a_file_that_is_no_config_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WorkbenchError):
        read_preprocessing(tmp_path)
    with pytest.raises(WorkbenchError, match="no such file"):
        read_preprocessing(tmp_path / "absent.json")
