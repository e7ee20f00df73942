"""Tabular columns: their statistics over the training profiles, and the codes that the network reads.

Shapes: U users of a table, B users of a batch, F numbers, P width of a number's code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.arrays import Floats, Ints
from model.data.config import Tabular
from model.data.profile_columns import number_column, string_column


def fit_tabular(table: pa.Table, tabular: Tabular, bins: int) -> Tabular:
    """Return the columns with their statistics over these profiles.

    A number gets the edges of `bins` quantile bins; equal edges count once, so a skewed number has fewer bins. A
    category gets its sorted values.
    """
    return Tabular(
        numbers=tuple(
            replace(number, edges=_quantile_edges(number_column(table, number.name), bins))
            for number in tabular.numbers
        ),
        categories=tuple(
            replace(column, values=tuple(sorted(pc.unique(string_column(table, column.name)).drop_null().to_pylist())))
            for column in tabular.categories
        ),
    )


def piecewise_codes(numbers_BF: NDArray[np.float64], tabular: Tabular) -> Floats:
    """Return `[B, F, P]`: a missing mark, then the piecewise-linear code of each number over its quantile bins.

    Bin j of edges e is clip((x - e_j) / (e_j+1 - e_j), 0, 1). A missing number (NaN) has its mark alone. A number with
    fewer bins than P - 1 is filled up with zeros.
    """
    codes_BFP = np.zeros((*numbers_BF.shape, tabular.code_width), dtype=np.float32)
    for column, number in enumerate(tabular.numbers):
        value_B = numbers_BF[:, column]
        missing_B = np.isnan(value_B)
        codes_BFP[missing_B, column, 0] = 1
        if len(number.edges) > 1:
            low, high = np.array(number.edges[:-1]), np.array(number.edges[1:])
            code = np.clip((value_B[:, None] - low) / (high - low), 0, 1)
            codes_BFP[:, column, 1 : 1 + len(low)] = np.where(missing_B[:, None], 0, code)
    return codes_BFP


def category_codes(column: pa.Array, values: tuple[str, ...]) -> Ints:
    """Return the code of each value, `[U]`: its position in `values` plus 1; 0 for a missing or unknown value."""
    position = pc.index_in(column, value_set=pa.array(values, pa.large_string()), skip_nulls=True)
    return np.asarray(pc.fill_null(position, -1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _quantile_edges(number_U: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    finite = number_U[np.isfinite(number_U)]
    if not len(finite):
        return ()
    return tuple(float(edge) for edge in np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1))))
