"""Checks of the Dask cluster and its workers, and results with clear errors."""

import pickle

RESUME = "Stored embeddings are kept; call again to resume."


class LostConnectionError(RuntimeError):
    """The connection to a worker or to the scheduler was closed."""

    def __init__(self, error):
        super().__init__(
            f"The connection to a worker or to the scheduler was lost ({error}), usually because "
            f"the process died; see its logs. {RESUME}"
        )


def require_dask():
    try:
        import dask.bag
        import dask.dataframe  # noqa: F401
        import distributed  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"skcandle.scale_out needs Dask and PyArrow ({error}). Install them with "
            '`pip install "skcandle[dask]"`.'
        ) from error


def check_workers(estimator):
    """Raise if workers cannot import the estimator; in a task, Dask would hang."""
    import cloudpickle

    try:
        on_all_workers(_load, cloudpickle.dumps(estimator))
    except LostConnectionError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"A worker cannot load this {type(estimator).__name__}: {error}. Install the packages "
            "and modules of the caller on the workers, in the same versions."
        ) from error


def on_all_workers(function, *args):
    """Results of a call on each worker; an empty list without a cluster."""
    from distributed import default_client
    from distributed.comm import CommClosedError

    try:
        client = default_client()
    except ValueError:  # no cluster
        return []
    try:
        return list(client.run(function, *args).values())
    except CommClosedError as error:
        raise LostConnectionError(error) from error


def _load(pickled):
    pickle.loads(pickled)


def compute(*collections):
    """Compute collections or tasks; errors of workers say what to do."""
    import dask
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    # Dask's default, threads, would compete with the threads of the featurizer.
    scheduler = dask.base.get_scheduler() or "synchronous"
    try:
        results = dask.compute(*collections, scheduler=scheduler)
    except MemoryError as error:
        raise MemoryError(
            "A worker ran out of memory. Give workers more memory, or use smaller partitions, "
            f"shards or batches. {RESUME}"
        ) from error
    except CommClosedError as error:
        raise LostConnectionError(error) from error
    except KilledWorker as error:
        raise RuntimeError(
            f"Workers died {error.allowed_failures + 1} times on the same images, usually because "
            "they ran out of memory; see their logs. Give workers more memory, or use smaller "
            f"partitions, shards or batches. {RESUME}"
        ) from error
    return results[0] if len(results) == 1 else results
