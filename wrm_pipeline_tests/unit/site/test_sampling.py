"""Sampling for display: no more rows than asked for, extremes, ends and the ends of gaps kept, nothing invented."""

import numpy as np
import pytest

from wrm_pipeline.site.sampling import sample


def noise(length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 20, length).astype(float)


def test_a_short_series_is_returned_whole() -> None:
    assert sample(np.array([0, 1, 5]), [noise(3)], 10, step=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("length", [1001, 2000, 8760, 8784])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_long_series_becomes_as_short_as_asked_and_keeps_its_ends(length: int, columns: int) -> None:
    rows = sample(np.arange(length), [noise(length, seed) for seed in range(columns)], 1000, step=1)

    assert 600 <= len(rows) <= 1000
    assert (rows[0], rows[-1]) == (0, length - 1)
    assert np.all(np.diff(rows) > 0)


@pytest.mark.parametrize("seed", range(40))
def test_the_highest_and_the_lowest_value_of_each_column_are_kept(seed: int) -> None:
    """MinMaxLTTB alone drops a tenth of such peaks at this length."""
    low, high = noise(8760, seed), noise(8760, seed + 1000)
    low[40 * seed + 7], high[30 * seed + 3000] = -9, 50

    rows = sample(np.arange(8760), [low, high], 200, step=1)

    assert low[rows].min() == -9
    assert high[rows].max() == 50


def test_the_rows_on_both_sides_of_each_gap_are_kept() -> None:
    times = np.concatenate([np.arange(1200), np.arange(1206, 3000), np.arange(3500, 6000)]) * 3600

    rows = sample(times, [np.zeros(len(times))], 200, step=3600)

    assert {1199, 1200, 2993, 2994} <= set(rows.tolist())
    assert len(rows) <= 200


def test_of_too_many_gaps_the_longest_are_kept() -> None:
    times = np.arange(4000) * 2
    times[2000:] += 100

    rows = sample(times, [noise(4000)], 100, step=1)

    assert {1999, 2000} <= set(rows.tolist())
    assert len(rows) <= 100


def test_the_same_series_gives_the_same_rows() -> None:
    times, series = np.arange(8760), noise(8760)

    assert (
        sample(times, [series], 1000, step=1).tolist() == sample(times.copy(), [series.copy()], 1000, step=1).tolist()
    )
