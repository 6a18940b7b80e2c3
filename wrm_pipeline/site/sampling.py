"""Long series made short enough to draw, by MinMaxLTTB of tsdownsample: extremes are kept, and so are the ends of gaps.

MinMaxLTTB: Van Der Donckt et al., "MinMaxLTTB: Leveraging MinMax-Preselection to Scale LTTB", IEEE VIS 2023. It picks
points of the series and makes none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sample(
    times: NDArray[np.int64], columns: Sequence[NDArray[np.float64]], points: int, *, step: int
) -> NDArray[np.int64]:
    """Return which rows of some series to draw, in order: all of them when there are no more than `points`.

    The first and last row, the highest and the lowest of each column, and the rows before and after each gap are among
    them. When the gaps would take more than half of the points, the longest are kept. What is left is shared by the
    columns, each of which is sampled by itself.

    Args:
        times: of the rows, rising.
        columns: what is drawn over these times; no NaN.
        points: at most so many rows are returned; at least 10 a column.
        step: the time from a row to the next one; more is a gap.
    """
    from tsdownsample import MinMaxLTTBDownsampler

    if len(times) <= points:
        return np.arange(len(times))
    extremes = [place for column in columns for place in (int(np.argmin(column)), int(np.argmax(column)))]
    steps = np.diff(times)
    gaps = np.flatnonzero(steps > step)
    # The longest first, and of equal ones the earliest, whatever a sort does with equals.
    gaps = gaps[np.lexsort((gaps, -steps[gaps]))][: points // 4]
    fixed = np.unique(np.concatenate([[0, len(times) - 1], extremes, gaps, gaps + 1]))
    share = (points - len(fixed)) // len(columns)
    axis = times.astype(np.float64)
    sampler = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    chosen = [sampler.downsample(axis, column.astype(np.float64), n_out=share) for column in columns]
    return np.unique(np.concatenate([fixed, *chosen]).astype(np.int64))
