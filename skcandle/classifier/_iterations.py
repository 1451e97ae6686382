"""The iterations of a fit, for scikit-learn's callbacks, one of which is the progress bar."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from typing import TypeVar, cast

from tqdm.auto import tqdm

from .._sklearn_private import callback_management_context

Fit = TypeVar("Fit", bound=Callable)
OBJECTIVE = "objective"  # its key in the metadata of an iteration


def tells_callbacks(fit: Fit) -> Fit:
    """Decorate a `fit` that tells callbacks when it begins, iterates and ends.

    Versions of scikit-learn before 1.9 have no callbacks, only the progress bar of `verbose`.
    """

    @wraps(fit)
    def telling(self, X, y, sample_weight=None):
        # without callbacks, several threads may fit one estimator
        has_none = not (self.verbose or getattr(self, "_skl_callbacks", []))
        if callback_management_context is None or has_none:
            return fit(self, X, y, sample_weight)
        data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        with _with_bar(self), callback_management_context(self):
            root = self._init_callback_context(max_subtasks=self.max_iter)
            root.call_on_fit_task_begin(estimator=self, **data)
            fit(self, X, y, sample_weight)
            root.call_on_fit_task_end(estimator=self, **data, reconstruction_attributes={})
        return self

    return cast(Fit, telling)


@contextmanager
def iterations(estimator, total):
    """Yield a function of the number of iterations that are finished, and of the objective.

    Parameters
    ----------
    estimator : BaseCandle
        Inside its fit.
    total : int
        Largest number of iterations.
    """
    root = getattr(estimator, "_callback_fit_ctx", None)
    if root is not None:
        tasks = _Tasks(estimator, root, total)
        yield tasks.report
        tasks.end({})
    elif estimator.verbose:
        bar = ObjectiveBar()
        bar.start(total, type(estimator).__name__)
        try:
            yield bar.show
        finally:
            bar.stop()
    else:
        yield lambda n_iter, objective: None


class _Tasks:
    """One task for each iteration, each of which begins when the last one ends."""

    def __init__(self, estimator, root, total):
        self.estimator, self.root, self.total = estimator, root, total
        self.n_finished = 0
        self.task = None
        self._begin()

    def report(self, n_iter, objective):
        while self.n_finished < n_iter and self.task is not None:
            self.n_finished += 1
            self.end({OBJECTIVE: objective})
            self._begin()

    def end(self, metadata):
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator, metadata=metadata)
        self.task = None

    def _begin(self):
        if self.n_finished < self.total:
            self.task = self.root.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(estimator=self.estimator)


class ObjectiveBar:
    """A progress bar that shows the objective, as a callback of scikit-learn."""

    def setup(self, estimator, context):
        self.start(context.max_subtasks, context.estimator_name)

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, metadata=None):
        if OBJECTIVE in (metadata or {}):
            self.show(self.bar.n + 1, metadata[OBJECTIVE])

    def teardown(self, estimator, context):
        self.stop()

    def start(self, total, name):
        self.bar = tqdm(total=total, desc=name)

    def show(self, n_iter, objective):
        self.bar.set_postfix_str(f"objective {objective:.4f}", refresh=False)
        self.bar.update(n_iter - self.bar.n)

    def stop(self):
        self.bar.total = self.bar.n  # training may stop early
        self.bar.close()


@contextmanager
def _with_bar(estimator):
    """Add the progress bar of `verbose` to the callbacks of a fit."""
    former = getattr(estimator, "_skl_callbacks", [])
    if estimator.verbose:
        estimator.set_callbacks(*former, ObjectiveBar())
    try:
        yield
    finally:
        estimator.set_callbacks(*former)
