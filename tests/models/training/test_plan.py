import dataclasses
import math

import pytest

import workbench as wb
from workbench.models import training, vit

TINY = wb.ModelSpec("tiny", image_size=16, patch=8, width=16, depth=1, heads=1, mlp=32, classes=16)
PLAN = training.Plan(TINY, images=64, epochs=6, batch=16, steps_per_call=4)


@pytest.mark.parametrize(
    "change",
    [{"batch": 65}, {"epochs": 0}, {"steps_per_call": 25}, {"compute": "float8"}, {"augmentation": "none"},
     {"mix": 1.5}, {"average": -0.1}, {"spec": dataclasses.replace(TINY, classes=10)}, {"data": "cifar10"}],
)  # fmt: skip
def test_a_plan_that_cannot_be_trained_is_refused(change):
    with pytest.raises(wb.WorkbenchError):
        dataclasses.replace(PLAN, **change)


def test_the_recipe_of_each_data_set_names_it_and_its_model_fits_in_eight_megabytes_of_float16():
    for name, plan in training.RECIPES.items():
        assert plan.data == name
        assert 2 * sum(map(math.prod, vit.parameter_shapes(plan.spec).values())) <= 8e6
