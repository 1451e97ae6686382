"""Groups of near-duplicates."""

import numpy as np
import pytest

from skcandle.inspection._duplicates import N_NEIGHBOURS, near_duplicates


def directions(*degrees):
    radians = np.deg2rad(degrees)
    return np.column_stack([np.cos(radians), np.sin(radians)]).astype(np.float32)


def groups(X, similarity):
    return [rows.tolist() for rows in near_duplicates(X, similarity)]


def test_pairs_within_the_angle_are_joined_and_chains_are_one_group():
    X = directions(0, 90, 9, 18, 200, 209, 270)
    assert groups(X, np.cos(np.deg2rad(10))) == [[0, 2, 3], [4, 5]]


def test_the_groups_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    similar = X @ X.T >= 0.98
    reach = np.linalg.matrix_power(similar.astype(float), 120) > 0
    expected = {tuple(np.flatnonzero(row)) for row in reach if row.sum() > 1}
    assert {tuple(group) for group in groups(X, 0.98)} == expected


def test_more_copies_than_neighbours_are_one_group():
    X = directions(*[0] * (3 * N_NEIGHBOURS), 180)
    assert groups(X, 0.99) == [list(range(3 * N_NEIGHBOURS))]


@pytest.mark.parametrize("degrees", [[], [0], [0, 90]])
def test_no_duplicates(degrees):
    assert groups(directions(*degrees) if degrees else np.empty((0, 2)), 0.99) == []


def test_only_identical_rows_at_a_similarity_of_one():
    assert groups(directions(0, 0, 1), 1.0) == [[0, 1]]
