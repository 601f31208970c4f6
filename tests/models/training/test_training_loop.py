import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import workbench as wb
from workbench.datasets import shapes
from workbench.models import training
from workbench.models.training import __main__ as command
from workbench.models.training import images, loop
from workbench.records import wilson

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=16, depth=1, heads=1, mlp=32, classes=16)
PLAN = training.Plan(TINY, images=64, epochs=6, batch=16, steps_per_call=4, compute="float32")


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    losses = []
    folder = tmp_path_factory.mktemp("training")
    params = training.train(PLAN, folder, progress=lambda stage, *_: losses.append(stage))
    return params, folder, [float(s.split()[-1]) for s in losses if s.startswith("training")]


def test_a_few_steps_lower_the_loss_and_give_a_model_that_is_found_again_without_a_step(finished):
    params, folder, losses = finished
    assert len(losses) == PLAN.steps // PLAN.steps_per_call == 6
    assert losses[-1] < losses[0]
    x = wb.images("shapes", split="evaluation", count=2, size=16).x
    assert wb.logits(TINY, params, x).shape == (2, 16)
    calls = []
    same(training.train(PLAN, folder, progress=lambda *call: calls.append(call)), params)
    assert calls == []


@pytest.mark.parametrize("stop_after", [8, 12])
def test_a_run_that_was_stopped_goes_on_to_the_same_parameters(finished, stop_after, tmp_path):
    def stop(stage, done, total):
        if stage.startswith("training") and done == stop_after:
            raise wb.Cancelled

    with pytest.raises(wb.Cancelled):
        training.train(PLAN, tmp_path, progress=stop)
    steps = []
    params = training.train(PLAN, tmp_path, progress=lambda stage, done, _: steps.append((stage[:8], done)))
    assert steps[0] == ("training", stop_after + 4)  # no image is drawn again, no step taken twice
    same(params, finished[0])


def test_a_cancelled_drawing_leaves_no_images_behind(tmp_path):
    def stop(stage, done, total):
        raise wb.Cancelled

    with pytest.raises(wb.Cancelled):
        training.train(PLAN, tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_pool_of_processes_draws_what_one_process_draws(monkeypatch):
    monkeypatch.setattr(images, "DRAWN_AT_ONCE", 5)
    pixels = np.empty((12, 16, 16, 3), np.uint8)
    labels = images.draw("calibration", 3, pixels)
    expected = shapes.generate(range(12), split="calibration", seed=3, size=16)
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(labels, expected[1])


def test_every_epoch_takes_each_image_once_in_a_new_order():
    steps = PLAN.images // PLAN.batch
    first, second = (np.concatenate([loop._order(PLAN, e * steps + i) for i in range(steps)]) for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(64))
    assert list(first) != list(second)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine():
    expected = optax.warmup_cosine_decay_schedule(0.0, PLAN.learning_rate, 5, 100)
    for step in (0, 1, 4, 5, 6, 50, 99, 100):
        assert loop._learning_rate(PLAN, 100, step) == pytest.approx(float(expected(step)), rel=1e-5, abs=1e-10)


def test_a_time_gives_as_many_epochs_as_fit_in_it_and_the_same_again_when_the_run_goes_on(tmp_path):
    seconds = iter(range(0, 1000, 10))  # each reading of the clock is ten later: a call takes 10 s
    plan = dataclasses.replace(PLAN, epochs=50)  # an epoch is four steps, which is one call
    within = functools.partial(training.loop.within, plan, tmp_path, clock=lambda: next(seconds))
    assert within(200).epochs == (200 - 10 * (2 + training.loop.TIMED_CALLS)) // 10
    assert within(10_000).epochs == 50
    assert within(200) == dataclasses.replace(plan, epochs=15)
    with pytest.raises(wb.WorkbenchError, match="too short"):
        within(41)


def test_the_average_of_the_parameters_is_the_result(finished, tmp_path):
    params = training.train(dataclasses.replace(PLAN, average=0.9), tmp_path)
    kernels = [tree["head"]["kernel"] for tree in (params, finished[0])]
    assert not np.array_equal(*kernels)
    start = wb.models.vit.init(TINY, PLAN.seed)["head"]["kernel"]
    assert np.linalg.norm(kernels[0] - start) < np.linalg.norm(kernels[1] - start)


@pytest.mark.parametrize(
    "change",
    [{"batch": 65}, {"epochs": 0}, {"steps_per_call": 25}, {"compute": "float8"},
     {"spec": dataclasses.replace(TINY, classes=10)}],
)  # fmt: skip
def test_a_plan_that_cannot_be_trained_is_refused(change):
    with pytest.raises(wb.WorkbenchError):
        dataclasses.replace(PLAN, **change)


def test_the_command_writes_a_checkpoint_and_its_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.vit, "TUTORIAL", TINY)
    out = tmp_path / "tiny.npz"  # the same plan as above, so that nothing is compiled again
    options = ["--out", out, "--folder", tmp_path, "--evaluation-images", 32]
    options += ["--images", 64, "--epochs", 6, "--batch", 16, "--steps-per-call", 4, "--compute", "float32"]
    command.main([str(option) for option in options])
    card = json.loads(out.with_suffix(".json").read_text())
    spec, params = wb.load_checkpoint(out)
    held_out = wb.images("shapes", split="evaluation", count=32, size=16)
    right = (wb.logits(spec, params, held_out.x).argmax(-1) == held_out.labels).mean()
    assert card["evaluation"]["top1"] == right
    low, high = card["evaluation"]["top1_interval"]
    assert low < right < high or right in (0, 1)
    assert card["plan"]["spec"]["name"] == spec.name == "tiny"
    assert f"{right:.2%} on 32 evaluation images" in capsys.readouterr().out


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
