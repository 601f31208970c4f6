import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import workbench as wb
from workbench.models import checkpoint, vit
from workbench.models.big_vision import sincos_positions
from workbench.models.position_embedding import resize_positions

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = ["token", "gap", "prelogits"]
#: Heads, classifier and representation of each.
SHAPES = {"token": (2, "token", None), "gap": (2, "gap", None), "prelogits": (4, "token", 24)}
#: What the reference files call an intermediate -> what the workbench calls it.
INTERMEDIATES = {
    "inter/embedding": "embedding/patches",
    "inter/Transformer/posembed_input": "embedding/output",
    "inter/Transformer/encoderblock_0": "block00/output",
    "inter/Transformer/encoderblock_1": "block01/output",
    "inter/Transformer/encoder_norm": "norm/output",
}
BLOCK = "Transformer/encoderblock_1"
ATTENTION = f"{BLOCK}/MultiHeadDotProductAttention_1"


def arrays_in(name):
    with np.load(REFERENCE / f"{name}.npz") as file:
        return dict(file)


def reference(model):
    return arrays_in(f"vit_tiny_{model}_ref")


def arrays_of(model="token"):
    return arrays_in(f"vit_tiny_{model}")


def written(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("model", MODELS)
def test_spec_logits_and_intermediates_are_those_of_vit_jax(model):
    spec, params = wb.load_checkpoint(REFERENCE / f"vit_tiny_{model}.npz")
    heads, classifier, representation = SHAPES[model]
    assert spec == wb.ModelSpec(f"vit_tiny_{model}", 32, 8, 16, 2, heads, 32, 10, classifier, representation)
    expected = reference(model)
    np.testing.assert_allclose(wb.logits(spec, params, expected["input"]), expected["logits"], atol=1e-4, rtol=0)
    forward = jax.jit(vit.forward_with_intermediates, static_argnums=0)
    y, found = forward(spec, params, expected["input"])
    np.testing.assert_allclose(y, expected["logits"], atol=1e-4, rtol=0)
    assert {key for key in expected if key.startswith("inter/")} == set(INTERMEDIATES)
    for theirs, ours in INTERMEDIATES.items():
        np.testing.assert_allclose(found[ours][:1], expected[theirs], atol=1e-4, rtol=0, err_msg=theirs)


@pytest.mark.parametrize("model", MODELS)
def test_both_namings_and_every_prefix_give_the_same_parameters(model, tmp_path):
    _, published = wb.load_checkpoint(REFERENCE / f"vit_tiny_{model}.npz")
    in_memory = {key: array for key, array in reference(model).items() if key.startswith("param/")}
    for prefix in ("", "params/", "param/", "opt/target/"):
        arrays = {prefix + key.removeprefix("param/"): array for key, array in in_memory.items()}
        if prefix:
            arrays["opt/state/step"] = np.array(7)  # beside the parameters, and none of them
        _, linen = wb.load_checkpoint(written(tmp_path / "linen.npz", arrays))
        jax.tree.map(np.testing.assert_array_equal, linen, published)


def test_a_size_of_the_table_gets_its_name(tmp_path):
    shapes = vit.parameter_shapes(wb.model_spec("Ti/16", classes=3))
    path = written(tmp_path / "x.npz", {key: np.zeros(shape, np.float16) for key, shape in shapes.items()})
    spec, _ = wb.load_checkpoint(path)
    assert spec == wb.model_spec("Ti/16", classes=3)


def test_other_floating_types_become_float32(tmp_path):
    for dtype in (np.float16, np.float64):
        arrays = {key: array.astype(dtype) for key, array in arrays_of().items()}
        _, params = wb.load_checkpoint(written(tmp_path / "x.npz", arrays))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(params["head"]["kernel"], arrays["head/kernel"].astype(np.float32))


# ---- position embeddings -----------------------------------------------------------------------------------------


def test_position_embeddings_are_resized_as_vit_jax_resizes_them():
    file = arrays_in("posembed_interp_ref")
    resized = [key for key in file if key.startswith("dst_")]
    assert len(resized) == 7
    for key in resized:
        source = file[f"src_14x14_{key.rsplit('_', 1)[1]}"]
        found = resize_positions(source, file[key].shape[1])
        np.testing.assert_allclose(found, file[key], atol=1e-4, rtol=0, err_msg=key)


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_is_loaded_at_another_image_size(model):
    path = REFERENCE / f"vit_tiny_{model}.npz"
    spec, params = wb.load_checkpoint(path, image_size=64)
    _, original = wb.load_checkpoint(path)
    assert (spec.image_size, spec.grid) == (64, 8)
    positions = params["Transformer"]["posembed_input"]["pos_embedding"]
    assert positions.shape == (1, spec.tokens, 16)
    if spec.classifier == "token":
        before = original["Transformer"]["posembed_input"]["pos_embedding"]
        np.testing.assert_array_equal(positions[:, 0], before[:, 0])
    vit.check_parameters(spec, params)


# ---- what is refused ---------------------------------------------------------------------------------------------


def refused(path, arrays) -> str:
    """The text of the refusal of these arrays."""
    with pytest.raises(wb.WorkbenchError) as error:
        wb.load_checkpoint(written(path, arrays))
    return str(error.value)


def _linen(key):
    for old, new in checkpoint._PUBLISHED_TO_LINEN.items():
        key = key.replace(old, new)
    return key


def test_any_missing_key_and_any_array_of_a_wrong_shape_is_named_with_expected_and_found(tmp_path):
    whole = arrays_of("prelogits")
    assert len(whole) == 2 * 16 + 10  # of two blocks, and cls, embedding, positions, norm, pre_logits, head
    for key, array in whole.items():
        text = refused(tmp_path / "x.npz", {other: value for other, value in whole.items() if other != key})
        assert f": {_linen(key)}.\n" in text
        assert "found nothing of this name" in text
        double = np.concatenate([array] * 2, axis=-1)
        text = refused(tmp_path / "x.npz", whole | {key: double})
        assert _linen(key) in text
        assert re.search(r"expected .* found", text)
        assert str(double.shape) in text or f"{double.shape[1]} rows" in text


class _Bomb:
    went_off = False

    def __reduce__(self):
        return setattr, (_Bomb, "went_off", True)


def not_finite(value):
    kernel = arrays_of()["head/kernel"].copy()
    kernel[0, 0] = value
    return {"head/kernel": kernel}


#: Name -> model, what is changed in its arrays, and what the refusal must say.
REFUSED = {
    "a hybrid under the prefix of training": (
        "token",
        {f"opt/target/{key}": array for key, array in arrays_of().items()}
        | {"opt/target/conv_root/kernel": np.zeros((3, 3), np.float32)},
        ["hybrid"],
    ),
    "an unknown key": ("token", {"MAPHead_0/probe": np.zeros((1, 1, 16), np.float32)}, ["MAPHead_0/probe"]),
    "an array of objects": ("token", {"head/bias": np.array([_Bomb()])}, ["head/bias", "never unpickled"]),
    "whole numbers": ("token", {"head/bias": np.zeros(10, np.int64)}, ["head/bias", "int64"]),
    "not a number": ("token", not_finite(np.nan), ["holds NaN or infinity: head/kernel"]),
    "infinity": ("token", not_finite(np.inf), ["holds NaN or infinity: head/kernel"]),
    "both namings": ("token", {f"{BLOCK}/LayerNorm_1/scale": np.ones(16, np.float32)}, ["twice"]),
    "positions without a row for the class token": (
        "gap",
        {"cls": np.zeros((1, 1, 48), np.float32)},
        [": cls.\n", "found shape (1, 1, 48)"],
    ),
    "a grid that is not square": (
        "token",
        {"Transformer/posembed_input/pos_embedding": np.zeros((1, 13, 16), np.float32)},
        ["no square grid", "13 rows"],
    ),
    **{
        f"{family}: {key}": ("token", {key: np.zeros((3, 3), np.float32)}, [family, key])
        for key, family in {
            "conv_root/kernel": "hybrid",
            "block1/unit01/conv1/kernel": "hybrid",
            "stem/kernel": "Mixer",
            "MixerBlock_0/token_mixing/Dense_0/kernel": "Mixer",
        }.items()
    },
}


@pytest.mark.parametrize(("model", "changes", "words"), REFUSED.values(), ids=REFUSED)
def test_a_checkpoint_that_is_no_plain_vit_is_refused_with_the_reason(model, changes, words, tmp_path):
    text = refused(tmp_path / "x.npz", arrays_of(model) | changes)
    assert all(word in text for word in words), text
    assert not _Bomb.went_off


def test_a_file_that_is_no_whole_archive_of_a_vits_arrays_is_refused(tmp_path):
    whole = (REFERENCE / "vit_tiny_token.npz").read_bytes()
    stored = written(tmp_path / "stored.npz", arrays_of()).read_bytes()
    damaged = stored.index(arrays_of()["embedding/kernel"].tobytes()[:64])
    np.save(tmp_path / "bare.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    files = {
        "pickle.npz": pickle.dumps(_Bomb()),
        "damaged.npz": stored[:damaged] + b"\xff" * 8 + stored[damaged + 8 :],
        **{f"{share}.npz": whole[: int(share * len(whole))] for share in (0.0, 0.01, 0.5, 0.99)},
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    reasons = dict.fromkeys(files, "cannot be read") | {
        "absent.npz": "There is no checkpoint",
        "bare.npy": "a single array",
        "other.npz": "holds no Vision Transformer",
        "damaged.npz": "embedding/kernel",
    }
    for name, reason in reasons.items():
        with pytest.raises(wb.WorkbenchError, match=rf"(?s){name}.*{reason}|{reason}.*{name}"):
            wb.load_checkpoint(tmp_path / name)
    with pytest.raises(wb.WorkbenchError, match="patches"):
        wb.load_checkpoint(REFERENCE / "vit_tiny_token.npz", image_size=60)
    assert not _Bomb.went_off


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_bytes_anywhere_are_refused_or_harmless(save, tmp_path):
    buffer = io.BytesIO()
    save(buffer, **arrays_of("gap"))
    whole, rng, refused = buffer.getvalue(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        headers = [m.start() for m in re.finditer(rb"PK\x01\x02|PK\x03\x04|NUMPY", whole)]
        for place in rng.choice(headers, 2) + rng.integers(0, 60, 2):
            damaged[min(place, len(whole) - 1)] = rng.integers(256)
        (tmp_path / "x.npz").write_bytes(damaged)
        try:
            wb.load_checkpoint(tmp_path / "x.npz")
        except wb.WorkbenchError:
            refused += 1
    assert refused > 75


# ---- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_what_is_saved_is_what_was_loaded_in_the_published_naming(model, tmp_path):
    path = REFERENCE / f"vit_tiny_{model}.npz"
    spec, params = wb.load_checkpoint(path)
    wb.save_checkpoint(tmp_path / f"vit_tiny_{model}.npz", spec, params)
    again, same = wb.load_checkpoint(tmp_path / f"vit_tiny_{model}.npz")
    assert again == spec
    jax.tree.map(np.testing.assert_array_equal, same, params)
    with np.load(tmp_path / path.name) as file:
        assert set(file.files) == set(arrays_of(model))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_float16_halves_the_file_gives_the_same_bytes_again_and_moves_logits_little(tmp_path):
    spec, params = wb.load_checkpoint(REFERENCE / "vit_tiny_token.npz")
    one, two = (wb.save_checkpoint(tmp_path / name, spec, params, dtype="float16") for name in ("a.npz", "b.npz"))
    assert one.read_bytes() == two.read_bytes()
    with np.load(one) as file:
        assert {array.dtype for array in file.values()} == {np.dtype(np.float16)}
    _, half = wb.load_checkpoint(one)
    expected = reference("token")
    np.testing.assert_allclose(wb.logits(spec, half, expected["input"]), expected["logits"], atol=2e-2)


def test_parameters_that_fit_neither_type_nor_spec_are_refused_and_nothing_is_written(tmp_path):
    spec, params = wb.load_checkpoint(REFERENCE / "vit_tiny_token.npz")
    large = params | {"head": params["head"] | {"bias": params["head"]["bias"] + 1e6}}
    with pytest.raises(wb.WorkbenchError, match="head/bias cannot be written as float16"):
        wb.save_checkpoint(tmp_path / "x.npz", spec, large, dtype="float16")
    with pytest.raises(wb.WorkbenchError, match="cls"):
        wb.save_checkpoint(tmp_path / "x.npz", spec, {key: part for key, part in params.items() if key != "cls"})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_old_file_as_it_was(tmp_path, monkeypatch):
    spec, params = wb.load_checkpoint(REFERENCE / "vit_tiny_token.npz")
    path = wb.save_checkpoint(tmp_path / "x.npz", spec, params)
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(wb.WorkbenchError, match="No space left"):
        wb.save_checkpoint(path, spec, params)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


# ---- other programs' files ---------------------------------------------------------------------------------------


def test_bfloat16_as_numpy_stores_it_is_read_as_the_same_numbers(tmp_path):
    arrays = {key: array.astype(ml_dtypes.bfloat16) for key, array in arrays_of().items()}
    path = written(tmp_path / "x.npz", arrays)
    with np.load(path) as file:
        assert file["head/kernel"].dtype == np.dtype("V2")  # this is what NumPy makes of it
    _, params = wb.load_checkpoint(path)
    np.testing.assert_array_equal(params["head"]["kernel"], arrays["head/kernel"].astype(np.float32))


FOREIGN = {
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "Flax's msgpack": b"\x83\xa6params\x81\xa4head\x80\xa4step\x01" * 9,
    "a Python pickle": pickle.dumps({"params": 1}),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a gzip file": gzip.compress(b"x"),
    "an empty file": b"",
    "a safetensors file": (2).to_bytes(8, "little") + b"{}",
    "an ONNX model": b"\x08\x0a\x12\x07pytorch",
}


@pytest.mark.parametrize(("name", "content"), FOREIGN.items(), ids=FOREIGN)
def test_a_file_of_another_format_is_named_as_what_it_is(name, content, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(wb.WorkbenchError, match=name) as error:
        wb.load_checkpoint(tmp_path / "x.npz")
    assert "allow_pickle" not in str(error.value)


def test_an_onnx_file_and_a_pytorch_checkpoint_are_sent_to_import_onnx(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"anything")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    for name in ("x.onnx", "x.npz"):
        with pytest.raises(wb.WorkbenchError) as error:
            wb.load_checkpoint(tmp_path / name)
        assert "import_onnx" in error.value.remedy


def test_a_relative_path_that_leads_nowhere_names_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(wb.WorkbenchError) as error:
        wb.load_checkpoint("../data/x.npz")
    assert str(tmp_path) in error.value.remedy
    assert "--cwd" in error.value.remedy


def big_visions(model):
    """The same parameters as big_vision stores them, its class token without a position of its own."""
    arrays = {
        "/".join(checkpoint._PUBLISHED_TO_LINEN.get(part, part) for part in key.split("/")): array
        for key, array in arrays_of(model).items()
    }
    positions = arrays.pop("Transformer/posembed_input/pos_embedding")
    if "cls" in arrays:
        arrays["cls"], positions = arrays["cls"] + positions[:, :1], positions[:, 1:]
    return arrays | {"pos_embedding": positions}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scanned", [False, True], ids=["blocks", "scanned"])
def test_a_plain_vit_of_big_vision_gives_the_logits_of_the_same_parameters(model, scanned, tmp_path):
    arrays = big_visions(model)
    if scanned:
        rests = {key.split("/", 2)[2] for key in arrays if "encoderblock_0/" in key}
        blocks = {rest: [arrays.pop(f"Transformer/encoderblock_{i}/{rest}") for i in (0, 1)] for rest in rests}
        arrays |= {f"Transformer/encoderblock/{rest}": np.stack(both) for rest, both in blocks.items()}
    arrays = {f"params/{key}": array for key, array in arrays.items()}
    spec, params = wb.load_checkpoint(written(tmp_path / "x.npz", arrays))
    expected = reference(model)
    np.testing.assert_allclose(wb.logits(spec, params, expected["input"]), expected["logits"], atol=1e-4, rtol=0)


#: A width of 8 has the frequencies 1 and 1/10,000: sine and cosine of the column, then of the row. By a pocket
#: calculator: sin 1, cos 1, sin 2, cos 2, and those of 1/10,000 and 2/10,000.
SIN_1, COS_1, SIN_2, COS_2 = 0.8414709848, 0.5403023059, 0.9092974268, -0.4161468365
SMALL = {0: (0, 1), 1: (0.99999999833e-4, 0.999999995), 2: (1.9999999867e-4, 0.99999998)}
LARGE = {0: (0, 1), 1: (SIN_1, COS_1), 2: (SIN_2, COS_2)}


def test_the_fixed_positions_of_big_vision_are_those_of_its_formula():
    found = sincos_positions(2, 3, 8)
    assert found.shape == (1, 6, 8)
    for token, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]):
        expected = [
            *(LARGE[column][0], SMALL[column][0], LARGE[column][1], SMALL[column][1]),
            *(LARGE[row][0], SMALL[row][0], LARGE[row][1], SMALL[row][1]),
        ]
        np.testing.assert_allclose(found[0, token], expected, atol=1e-7)


@pytest.mark.parametrize("model", ["gap", "token"])
def test_a_model_with_fixed_positions_computes_what_it_computes_with_them_written_out(model, tmp_path):
    arrays = big_visions(model)
    spec, _ = wb.load_checkpoint(written(tmp_path / "whole.npz", arrays))
    del arrays["pos_embedding"]
    fixed = written(tmp_path / "fixed.npz", arrays)
    written_out = arrays | {"pos_embedding": sincos_positions(spec.grid, spec.grid, spec.width)}
    images = reference(model)["input"]
    found = wb.logits(*wb.load_checkpoint(fixed, image_size=spec.image_size), images)
    same = wb.logits(*wb.load_checkpoint(written(tmp_path / "out.npz", written_out)), images)
    np.testing.assert_array_equal(found, same)
    larger, params = wb.load_checkpoint(fixed, image_size=3 * spec.patch)
    assert (larger.grid, params["Transformer"]["posembed_input"]["pos_embedding"].shape[1]) == (3, larger.tokens)


@pytest.mark.parametrize("size", [None, 0, -16, 10**9, 17, 16.5, "16"])
def test_without_a_size_or_with_none_that_fits_fixed_positions_are_refused_with_what_to_give(size, tmp_path):
    arrays = big_visions("gap")
    del arrays["pos_embedding"]
    with pytest.raises(wb.WorkbenchError) as error:
        wb.load_checkpoint(written(tmp_path / "x.npz", arrays), image_size=size)
    assert "image_size" in error.value.remedy


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["params/MAPHead_0/probe"], "MAP head of SigLIP"),
        (["params/img/embedding/kernel", "params/txt/head/kernel"], "two towers"),
        (["img/cls", "t"], "LiT or SigLIP"),
    ],
)
def test_lit_and_siglip_are_named_as_what_they_are(keys, family, tmp_path):
    arrays = {f"params/{key}": array for key, array in big_visions("gap").items()}
    text = refused(tmp_path / "x.npz", arrays | dict.fromkeys(keys, np.zeros((1, 1, 16), np.float32)))
    assert family in text
    assert "import_onnx" in text


# ---- files that were made to mislead -----------------------------------------------------------------------------


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = written(tmp_path / "x.npz", arrays_of())
    other = io.BytesIO()
    np.save(other, arrays_of()["head/bias"] + 1)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("head/bias.npy", other.getvalue())
    with pytest.raises(wb.WorkbenchError, match="an array twice: head/bias"):
        wb.load_checkpoint(path)


def test_an_array_without_a_header_and_one_of_a_size_beyond_its_bytes_are_refused(tmp_path):
    for content, says in {
        b"no header at all": "head/bias is no array",
        npy_header("(1000000000000,)"): "head/bias is damaged",
        npy_header("(-1,)"): "no array of numbers",
        npy_header("__import__('os')"): "no array of numbers",
    }.items():
        arrays = {key: array for key, array in arrays_of().items() if key != "head/bias"}
        path = written(tmp_path / "x.npz", arrays)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("head/bias.npy", content)
        with pytest.raises(wb.WorkbenchError, match=says):
            wb.load_checkpoint(path)


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(40)


MISLEADING = {
    "a parameter inside a parameter": ({"head/kernel/x": np.zeros(3, np.float32)}, "head/kernel is a parameter"),
    "a block far away": ({"Transformer/encoderblock_99999/x": np.zeros(3, np.float32)}, "lacks a block"),
}


@pytest.mark.parametrize(("changes", "says"), MISLEADING.values(), ids=MISLEADING)
def test_names_that_no_tree_can_have_are_refused_at_once(changes, says, tmp_path):
    assert says in refused(tmp_path / "x.npz", arrays_of() | changes)


@pytest.mark.parametrize("size", [10**9, 0, -32, 2**70, "64", 64.0, True])
def test_an_image_size_that_no_model_takes_is_refused(size):
    with pytest.raises(wb.WorkbenchError, match="image_size"):
        wb.load_checkpoint(REFERENCE / "vit_tiny_token.npz", image_size=size)
