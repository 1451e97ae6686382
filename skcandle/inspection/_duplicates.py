"""Near-duplicate images."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

# Neighbours that are compared with each distinct image.
N_NEIGHBOURS = 16


def near_duplicates(X, similarity):
    """Groups of images that are connected by similar pairs.

    Memory grows with the number of images, not with its square: scikit-learn compares them in
    blocks and keeps only the nearest neighbours.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Unit rows.
    similarity : float
        Minimum cosine of a pair.

    Returns
    -------
    groups : list of ndarray of int
        Sorted rows of each group of two or more. Groups are ordered by their first rows.
    """
    distinct, first = np.unique(X, axis=0, return_inverse=True)  # any number of identical files
    first = first.ravel()
    group = np.arange(len(distinct))
    if len(distinct) > 1:
        n_neighbours = min(N_NEIGHBOURS + 1, len(distinct))
        search = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(distinct)
        distance, neighbour = search.kneighbors(distinct)
        source, rank = np.nonzero(distance <= np.sqrt(2 - 2 * similarity))
        # connected_components of SciPy 1.11 gives wrong results for int64
        places = source.astype(np.int32), neighbour[source, rank].astype(np.int32)
        graph = coo_array(
            (np.ones(len(source), dtype=bool), places), shape=(len(distinct), len(distinct))
        )
        _, group = connected_components(graph, directed=False)
    group = group[first]
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted((np.sort(rows) for rows in groups if len(rows) > 1), key=lambda rows: rows[0])
