"""Packed vectors against numpy's own bytes."""

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.vectors import VectorError, pack, tags, unpack, unpack_all, width_in


def lists(*vectors) -> pa.ListArray:
    return pa.array(vectors, pa.list_(pa.float32()))


def test_pack_is_numpys_little_endian_half_precision():
    vectors = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [None if row % 7 == 0 else vector.tolist() for row, vector in enumerate(vectors)]
    packed = pack(lists(*rows))
    assert packed.type == pa.binary()
    assert packed.to_pylist() == [None if row is None else np.array(row).astype("<f2").tobytes() for row in rows]
    present = np.array([row for row in rows if row is not None])
    unpacked = unpack(packed.drop_null().to_pylist(), 24)
    assert unpacked.dtype == np.float32
    assert np.array_equal(unpacked, present.astype(np.float16).astype(np.float32))
    assert ((unpacked * present).sum(axis=1) / np.linalg.norm(unpacked, axis=1)).min() > 0.99999
    assert unpack([], 24).shape == (0, 24)
    assert [row for row in unpack_all(packed).to_pylist() if row is not None] == unpacked.tolist()
    assert unpack_all(packed).is_valid().to_pylist() == packed.is_valid().to_pylist()


@pytest.mark.parametrize(("offset", "length"), [(0, 3), (1, 3), (2, 0), (3, 2)])
def test_a_slice_packs_and_unpacks_as_its_rows(offset, length):
    whole = lists([1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0], None)
    part = whole.slice(offset, length)
    assert pack(part).to_pylist() == pack(whole).to_pylist()[offset : offset + length]
    assert unpack_all(pack(whole).slice(offset, length)).to_pylist() == part.to_pylist()


@pytest.mark.parametrize(
    ("vector", "why"), [([1.0, float("nan")], "not finite"), ([1.0, 1e6], "not finite"), ([1.0, None], "null value")]
)
def test_what_half_precision_cannot_hold_is_refused(vector, why):
    with pytest.raises(VectorError, match=why):
        pack(lists([1.0, 1.0], vector))


def test_tags_tell_the_decoder_what_the_bytes_are():
    assert width_in(tags(896)) == 896
    with pytest.raises(VectorError, match="is not a vector packed as"):
        width_in({**tags(896), "dtype": "bfloat16"})
    with pytest.raises(VectorError, match="6 bytes are not a vector of 2"):
        unpack([b"1234", b"123456"], 2)
