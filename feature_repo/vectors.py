"""A vector as bytes: little-endian float16, one value after the other.

A list of floats takes ten times the bytes in a store and ten times the time of a lookup. Half precision changes the
cosine of two normalised vectors by at most 1e-4. The tags of each feature say how its bytes are encoded.

Shapes: N vectors of width W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import InstructUEError

DTYPE = np.dtype("<f2")
ENCODING = {"dtype": "float16", "byte_order": "little"}


class VectorError(InstructUEError):
    """A vector that cannot be packed, or bytes that are not one."""


def tags(width: int) -> dict[str, str]:
    """Return the tags of a feature that holds packed vectors of `width` values."""
    return {**ENCODING, "width": str(width)}


def width_in(tags: Mapping[str, str]) -> int:
    """Return the width in a feature's tags.

    Raises
    ------
    VectorError
        The tags name another encoding than this module decodes.
    """
    if {key: tags.get(key) for key in ENCODING} != ENCODING or not tags.get("width", "").isdigit():
        raise VectorError(
            f"a feature with the tags {dict(tags)} is not a vector packed as {ENCODING}; "
            "publish with this version of the project"
        )
    return int(tags["width"])


def pack(lists: pa.ListArray | pa.LargeListArray) -> pa.BinaryArray:
    """Pack N lists of floats into N byte strings; null stays null.

    Raises
    ------
    VectorError
        A value is missing, not finite, or too large for float16.
    """
    values = lists.flatten()
    if values.null_count:
        raise VectorError("a vector has a null value in it; run `embed` for its day again")
    with np.errstate(over="ignore"):
        packed = values.to_numpy(zero_copy_only=False).astype(DTYPE)
    if not np.isfinite(packed).all():
        raise VectorError("a vector has a value that is not finite in float16; run `embed` for its day again")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum(lengths * DTYPE.itemsize, out=offsets[1:])
    valid = np.packbits(lists.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    buffers = [pa.py_buffer(valid), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(packed)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(lists), buffers)


def unpack(packed: Sequence[bytes], width: int) -> npt.NDArray[np.float32]:
    """Return the vectors [N, W] of N byte strings.

    Raises
    ------
    VectorError
        A byte string does not have `width` values.
    """
    wrong = {len(cell) for cell in packed} - {width * DTYPE.itemsize}
    if wrong:
        raise VectorError(
            f"{wrong.pop()} bytes are not a vector of {width} float16 values: the store was published "
            "with another width since this process read the registry; open the store again"
        )
    return np.frombuffer(b"".join(packed), dtype=DTYPE).astype(np.float32).reshape(len(packed), width)


def unpack_all(packed: pa.BinaryArray) -> pa.ListArray:
    """Return N lists of float32 from N byte strings of any lengths; null stays null."""
    lengths = pc.fill_null(pc.binary_length(packed), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(packed) + 1, dtype=np.int64)
    np.cumsum(lengths // DTYPE.itemsize, out=offsets[1:])
    values = np.frombuffer(b"".join(packed.drop_null().to_pylist()), dtype=DTYPE).astype(np.float32)
    valid = np.packbits(packed.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    buffers = [pa.py_buffer(valid), pa.py_buffer(offsets.astype(np.int32))]
    return pa.ListArray.from_buffers(pa.list_(pa.float32()), len(packed), buffers, children=[pa.array(values)])
