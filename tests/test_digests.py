"""Equal values have equal digests, other values have others."""

import numpy as np
import pytest

from workbench.digests import digest, file_digest
from workbench.records import Batches


def test_values_that_differ_have_other_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    parts = [1, 1.5, "1", True, None, b"1", [1, 2], [[1], 2], [1, [2]], {"a": 1}, {"a": "1"}, {"a": {"b": 1}}]
    parts += [np.arange(4), np.arange(4, dtype=np.int32), np.arange(4).reshape(2, 2), np.arange(4)[::-1]]
    parts += [tmp_path / "a", tmp_path / "b", Batches(1, 2, 3), Batches(1, 2, 4)]
    assert len({digest(part) for part in parts}) == len(parts)
    assert digest("a", "b") != digest("ab") != digest(["a", "b"])


def test_values_that_are_equal_have_the_same_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    array = np.arange(12).reshape(3, 4)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest((1, 2)) == digest([1, 2])
    assert digest(array.T.copy()) == digest(array.T)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert len(digest(1)) == 32


def test_a_file_digest_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4's own example
    assert file_digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_value_without_bytes_of_its_own_is_refused():
    with pytest.raises(TypeError, match="objects"):
        digest(np.array([object()]))
    with pytest.raises(TypeError):
        digest({1, 2})
