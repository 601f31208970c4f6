"""Loading an engine, and the optimization profile that takes a shape."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench.backends.tensorrt.engine import profile_for, runtime_of
from workbench.errors import WorkbenchError

#: Sizes of 96 and 224 pixels, batches of 1 to 32.
PROFILES = [{"images": ((1, size, size, 3), (32, size, size, 3))} for size in (96, 224)]


@pytest.mark.parametrize(("options", "allowed"), [({}, False), ({"version_compatible": True}, True)])
def test_only_a_version_compatible_engine_may_bring_code_for_the_host(options, allowed):
    adapter = SimpleNamespace(module=SimpleNamespace(Runtime=lambda logger: SimpleNamespace(logger=logger)))
    assert runtime_of(adapter, options, "logger").engine_host_code_allowed is allowed


def test_the_profile_that_takes_the_shape_is_chosen_and_a_shape_that_none_takes_is_refused():
    for shape, expected in {(1, 96, 96, 3): 0, (32, 96, 96, 3): 0, (8, 224, 224, 3): 1}.items():
        assert profile_for({"images": shape}, PROFILES) == expected
        assert profile_for({"images": shape}, [{}]) == 0  # no input has symbolic dimensions
    for shape in ((33, 96, 96, 3), (8, 128, 128, 3)):
        with pytest.raises(WorkbenchError, match="does not take the shapes") as error:
            profile_for({"images": shape}, PROFILES)
        assert "(32, 224, 224, 3)" in error.value.why
