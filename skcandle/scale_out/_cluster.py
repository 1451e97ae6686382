"""The Dask cluster: whether it is there, whether its workers can do the work, and its results."""

import pickle


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
    """An error where workers cannot import it: in a task, Dask would lose them and wait on."""
    import cloudpickle

    try:
        on_all_workers(_load, cloudpickle.dumps(estimator))
    except Exception as error:
        raise RuntimeError(
            f"A worker cannot load this {type(estimator).__name__}: {error}. Workers need the "
            "packages and modules of the caller, in the same versions."
        ) from error


def on_all_workers(function, *args):
    """Results of a call on each worker that is there; none without a cluster."""
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:  # no cluster
        return []
    return list(client.run(function, *args).values())


def _load(pickled):
    pickle.loads(pickled)


def compute(*collections):
    """Results of collections or tasks, with errors of workers in words that help."""
    import dask
    from distributed import KilledWorker

    # Threads, Dask's choice for tasks, would share the processors with those of the featurizer.
    scheduler = dask.base.get_scheduler() or "synchronous"
    resume = "What is stored stays; call again to go on from there."
    try:
        results = dask.compute(*collections, scheduler=scheduler)
    except MemoryError as error:
        raise MemoryError(
            "A worker ran out of memory. Give workers more of it, or use smaller partitions, "
            f"shards or batches. {resume}"
        ) from error
    except KilledWorker as error:
        raise RuntimeError(
            f"Workers died {error.allowed_failures + 1} times over the same images, mostly for "
            "want of memory: see their logs. Give workers more of it, or use smaller partitions, "
            f"shards or batches. {resume}"
        ) from error
    return results[0] if len(results) == 1 else results
