import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

import workbench as wb
from workbench.models import training
from workbench.models.training import loop

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
