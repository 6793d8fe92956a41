"""Golden vectors as text: they come back as they went in, and damaged ones are refused without harm."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import MOST_TEXT_BYTES, Golden, GoldenVector, decode_golden, encode_golden, sample


def make(outputs=None, **changes) -> Golden:
    random = np.random.default_rng(7)
    vector = GoldenVector(
        inputs={"x": random.normal(size=(2, 3, 4)).astype(np.float32), "ids": np.array([[1, 2]], np.int64)},
        outputs=outputs or {"logits": random.normal(size=(2, 3, 5)).astype(np.float32)},
    )
    return Golden(**{"vectors": (vector, vector), "tolerance_bodies": 1e-5, "tolerance_kernels": 1e-3} | changes)


TEXT = encode_golden(make())


def test_vectors_come_back_as_they_were():
    golden, back = make(), decode_golden(TEXT)
    assert (back.tolerance_bodies, back.tolerance_kernels) == (1e-5, 1e-3)
    for before, after in zip(golden.vectors, back.vectors, strict=True):
        for kind in ("inputs", "outputs"):
            old, new = getattr(before, kind), getattr(after, kind)
            assert old.keys() == new.keys()
            for name, array in old.items():
                assert new[name].dtype == array.dtype
                np.testing.assert_array_equal(new[name], array)


def test_equal_vectors_are_equal_bytes():
    assert encode_golden(make()) == TEXT
    assert encode_golden(decode_golden(TEXT)) == TEXT


def test_a_large_output_is_sampled_and_every_column_is_seen():
    logits = np.arange(100 * 4096, dtype=np.float32).reshape(1, 100, 4096)
    golden = decode_golden(encode_golden(make({"logits": logits})))
    stride = golden.vectors[0].strides["logits"]
    flat, same_stride = sample(logits)
    assert stride == same_stride
    np.testing.assert_array_equal(golden.vectors[0].outputs["logits"], flat)
    assert 4096 * 0.8 < flat.size <= 4096
    # A stride of 100 would have met every fourth column only.
    assert len(set((flat % 4 + 0).tolist())) == 4
    assert encode_golden(golden) == encode_golden(make({"logits": logits}))


@given(st.integers(1, 30_000))
def test_a_sample_is_small_and_walks_the_whole_array(size):
    flat, stride = sample(np.arange(size))
    assert flat.size <= 4096
    np.testing.assert_array_equal(flat, np.arange(0, size, stride))
    if size <= 4096:
        assert stride == 1


def test_a_name_that_looks_like_a_sample_keeps_its_name():
    back = decode_golden(encode_golden(make({"y@3": np.ones((2, 2), np.float32)})))
    assert set(back.vectors[0].outputs) == {"y@3"}
    assert back.vectors[0].strides == {"y@3": 1}


def test_too_large_vectors_are_refused():
    noise = np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    golden = Golden(
        vectors=(GoldenVector(inputs={"x": noise}, outputs={"y": noise}),), tolerance_bodies=0, tolerance_kernels=0
    )
    with pytest.raises(ArtifactError, match=r"take \d+ bytes, at most 65536 are allowed: use fewer or shorter"):
        encode_golden(golden)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), True, "1"])
def test_a_tolerance_is_a_finite_number(tolerance):
    with pytest.raises(ArtifactError, match=r"tolerance\.bodies must be a finite number of at least 0"):
        encode_golden(make(tolerance_bodies=tolerance))


@pytest.mark.parametrize("largest", [0.0, 1e-6, 0.5, 1.0, 20.0, 1e30])
def test_a_tolerance_is_at_most_what_an_export_writes(largest):
    y = np.array([0.0, -largest, largest / 2], np.float32)
    most = 1e-2 * max(1.0, float(np.float32(largest)))
    for kind in ("tolerance_bodies", "tolerance_kernels"):
        golden = decode_golden(encode_golden(make({"y": y}, **{kind: most})))
        assert getattr(golden, kind) == most
        with pytest.raises(ArtifactError, match=r"outputs of up to .* other weights would also pass"):
            encode_golden(make({"y": y}, **{kind: np.nextafter(most, np.inf)}))


def test_an_output_may_have_a_smaller_tolerance():
    outputs = {"y": np.float32([0.5]), "cache": np.float32([8.0])}
    golden = make(outputs, tolerance_bodies=8e-5, tolerance_kernels=8e-4, tolerance_outputs={"y": 1e-5})
    back = decode_golden(encode_golden(golden))
    assert back.tolerance_outputs == {"y": 1e-5}
    assert [back.tolerance(name, kernels=True) for name in ("y", "cache", "other")] == [1e-5, 8e-4, 8e-4]
    assert back.tolerance("cache", kernels=False) == 8e-5
    assert "outputs" not in json.loads(TEXT)["tolerance"]  # an older reader applies the two


def test_the_tolerance_of_an_output_is_bounded_by_that_output():
    outputs = {"y": np.float32([0.5]), "cache": np.float32([8.0])}
    encode_golden(make(outputs, tolerance_bodies=0.08, tolerance_outputs={"y": 0.01, "cache": 0.08}))
    sentence = r"tolerance\.outputs\['y'\] is 0\.02, at most 0\.01 is allowed for expected values of 'y' of up to 0\.5"
    with pytest.raises(ArtifactError, match=sentence):
        encode_golden(make(outputs, tolerance_bodies=0.08, tolerance_outputs={"y": 0.02}))
    with pytest.raises(ArtifactError, match=r"tolerance\.outputs has 'z', which is not among the outputs"):
        encode_golden(make(outputs, tolerance_outputs={"z": 0.0}))


def test_an_expected_infinity_does_not_lift_the_bound():
    y = np.array([np.inf, np.nan, 2.0], np.float32)
    with pytest.raises(ArtifactError, match=r"at most 0\.02 is allowed for expected outputs of up to 2"):
        encode_golden(make({"y": y}, tolerance_bodies=0.03))


def test_a_sample_may_have_missed_the_largest_output():
    y = np.zeros(10_000, np.float32)
    assert 7 not in sample(np.arange(10_000))[0]
    y[7] = 9.0  # an export scales by it, and the file does not have it
    assert decode_golden(encode_golden(make({"y": y}, tolerance_bodies=0.09))).tolerance_bodies == 0.09
    with pytest.raises(ArtifactError, match=r"at most 0\.1 is allowed"):
        encode_golden(make({"y": y}, tolerance_bodies=0.11))


def test_objects_are_refused():
    with pytest.raises(ArtifactError, match="only numbers and booleans"):
        encode_golden(make({"y": np.array([object()])}))


def pack(members: dict[str, bytes], **changes) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    document = {
        "tolerance": {"bodies": 1e-5, "kernels": 1e-5},
        "npz": base64.b64encode(buffer.getvalue()).decode(),
    }
    return json.dumps(document | changes)


def npy(shape: str, dtype: str = "<f4", data: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


# One vector whose expected output is 3.
ONE = {f"0.{part}.npy": npy("(1,)", data=np.float32(3).tobytes()) for part in ("in.x", "out.y")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not the JSON"),
        ("[]", "not the JSON"),
        ('{"tolerance": {"bodies": 1}}', "not the JSON"),
        (pack({}, npz="***"), "not the JSON"),
        (pack({}, npz=5), "not the JSON"),
        (pack({}, npz="AAAA"), "the archive cannot be read"),
        (pack(ONE, tolerance={"bodies": -1, "kernels": 1}), "finite number of at least 0"),
        (pack(ONE, tolerance={"bodies": 1e-5, "kernels": float("nan")}), "finite number of at least 0, got nan"),
        (pack(ONE, tolerance={"bodies": float("inf"), "kernels": 0}), "finite number of at least 0, got inf"),
        (pack(ONE, tolerance={"bodies": 10**400, "kernels": 0}), r"finite number of at least 0, got 10{39}"),
        (pack(ONE, tolerance={"bodies": 1e-5, "kernels": 1e308}), r"tolerance\.kernels is 1e\+308, at most 0\.03"),
        ("x" * (MOST_TEXT_BYTES + 1), "65537 bytes of text"),
        (pack({"0.in.x.npy": bytes(17 * 2**20)}), "unpack to 17825792 bytes, at most 16777216"),
        # A header that promises 4 TB must not be believed.
        (pack({"0.in.x.npy": npy("(1000000000000,)")}), "but 0 bytes follow"),
        (pack({"0.in.x.npy": npy("(1,)", "|O", b"\0" * 8)}), "but 8 bytes follow"),
        (pack({"0.in.x.npy": npy("(-1,)", data=b"\0" * 4)}), "cannot be read"),
        (pack({"0.in.x.npy": b"garbage"}), "cannot be read"),
        (pack({"surprise": npy("()", data=b"\0" * 4)}), "unexpected member 'surprise'"),
        (pack({"0.in.x.npy": npy("()", data=b"\0" * 4)}), "lacks its inputs or its outputs"),
    ],
)
def test_damaged_vectors_are_refused(text, sentence):
    with pytest.raises(ArtifactError, match=sentence):
        decode_golden(text)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_archive_is_an_artifact_error_or_still_readable(data):
    document = json.loads(TEXT)
    packed = bytearray(base64.b64decode(document["npz"]))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    document["npz"] = base64.b64encode(packed).decode()
    try:
        golden = decode_golden(json.dumps(document))
    except ArtifactError as error:
        assert "golden vectors are damaged" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert isinstance(golden, Golden)


def with_tolerance(number):
    text = json.dumps(json.loads(TEXT) | {"tolerance": "here"})
    return text.replace('"here"', f'{{"bodies": {number}, "kernels": 0.001}}')


@pytest.mark.parametrize("tolerance", ["1" + "0" * 400, "1e400", "1" * 5000])
def test_a_tolerance_that_is_not_a_float_is_refused(tolerance):
    with pytest.raises(
        ArtifactError, match=r"tolerance\.bodies must be a finite number|not the JSON that was expected"
    ):
        decode_golden(with_tolerance(tolerance))


def test_a_tolerance_may_be_a_negative_zero():
    assert decode_golden(with_tolerance("-1e-400")).tolerance_bodies == 0
