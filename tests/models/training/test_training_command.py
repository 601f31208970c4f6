import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.models import training
from workbench.models.training import __main__ as command
from workbench.records import wilson

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=16, depth=1, heads=1, mlp=32, classes=16)
PLAN = training.Plan(TINY, images=64, epochs=6, batch=16, steps_per_call=4, compute="float32")


def test_the_command_writes_a_checkpoint_and_its_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(command.RECIPES, "shapes", PLAN)
    out = tmp_path / "tiny.npz"
    command.main(["--out", str(out), "--folder", str(tmp_path), "--evaluation-images", "32", "--epochs", "5"])
    card = json.loads(out.with_suffix(".json").read_text())
    spec, params = wb.load_checkpoint(out)
    held_out = wb.images("shapes", split="evaluation", count=32, size=16)
    right = (wb.logits(spec, params, held_out.x).argmax(-1) == held_out.labels).mean()
    assert card["evaluation"]["top1"] == right
    low, high = card["evaluation"]["top1_interval"]
    assert low < right < high or right in (0, 1)
    assert card["plan"]["spec"]["name"] == spec.name == "tiny"
    assert (card["plan"]["epochs"], card["plan"]["batch"]) == (5, PLAN.batch)
    assert f"{right:.2%} on 32 evaluation images" in capsys.readouterr().out


def test_the_recipe_for_photographs_learns_from_a_handful_of_images_of_a_file(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2  # stripes that lie or stand, which no augmentation of photographs confuses
    stripes = np.broadcast_to(np.where(np.arange(16) % 8 < 4, 200, 60)[:, None, None], (16, 16, 3))
    images = np.stack([stripes.transpose(1, 0, 2) if label else stripes for label in labels])
    images = images + rng.integers(-40, 40, images.shape)
    np.savez(tmp_path / "stripes.npz", images=images.astype(np.uint8), labels=labels)
    spec = dataclasses.replace(TINY, classes=2, classifier="gap")
    plan = dataclasses.replace(training.RECIPES["cifar10"], spec=spec, data=str(tmp_path / "stripes.npz"))
    plan = dataclasses.replace(plan, images=128, epochs=30, batch=32, average=0.9)
    monkeypatch.setitem(command.RECIPES, "cifar10", plan)
    options = ["--recipe", "cifar10", "--folder", tmp_path, "--minutes", 5]
    options += ["--out", tmp_path / "stripes-vit.npz", "--evaluation-images", 64]
    command.main([str(option) for option in options])
    card = json.loads((tmp_path / "stripes-vit.json").read_text())
    assert card["evaluation"]["top1"] > 0.9
    assert f"{card['plan']['epochs']} epochs" in capsys.readouterr().out


# ---- the checkpoint that is shipped ------------------------------------------------------------------------------

SHIPPED = Path(__file__).parents[3] / "data" / "checkpoints" / "shapes-vit.npz"


def test_the_shipped_checkpoint_is_small_and_its_card_says_how_good_it_is():
    with np.load(SHIPPED) as file:
        assert {array.dtype for array in file.values()} == {np.dtype(np.float16)}
    spec, _ = wb.load_checkpoint(SHIPPED)
    assert (spec.patch, spec.head_size) == (8, 64)
    assert spec.depth >= 6
    assert SHIPPED.stat().st_size <= 8e6
    evaluation = json.loads(SHIPPED.with_suffix(".json").read_text())["evaluation"]
    assert evaluation["images"] == 10_000
    assert 0.90 <= evaluation["top1"] <= 0.97


@pytest.mark.slow
def test_the_shipped_checkpoint_is_as_good_as_its_card_says():
    hits, count = command.evaluate(SHIPPED, images=1_500)
    low, high = wilson(hits, count, confidence=0.999)
    assert low < json.loads(SHIPPED.with_suffix(".json").read_text())["evaluation"]["top1"] < high
