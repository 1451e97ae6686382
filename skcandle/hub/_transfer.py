"""To and from the Hugging Face Hub."""

from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .. import _typing, _version
from ..clip._checkpoint import first_line
from ..exceptions import HubError
from ._card import REPOSITORY, load_line

MODEL_FILE = "model.skops"
CARD_FILE = "README.md"
LOG_IN = "log in with huggingface_hub.login(), or give a token"


def push_to_hub(
    folder: _typing.Path,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Put a folder of :func:`save_pipeline` on the Hugging Face Hub.

    Look at the model card before: ``README.md`` can be edited. Only it and ``model.skops`` are
    uploaded; other files of the folder are not.

    Parameters
    ----------
    folder : str or path-like
        It stays as it is. On the Hub, the card has the name of the repository where it says how
        to load.

    repo_id : str
        ``"owner/name"``, or ``"name"`` for one of your own. The repository is made if need be.

    private : bool, default=True
        Whether a repository that is made is private. One that exists stays as it is.

    token : str, default=None
        With the right to write; by default the one you are logged in with.

    commit_message : str, default=None
        By default with the version of skcandle.

    Returns
    -------
    url : str
        Address of the repository.

    Raises
    ------
    OSError
        If the folder has not both files.
    ValueError
        If `repo_id` is no name of a repository.
    HubError
        If the Hub cannot be reached, or refuses. The folder can be pushed again.

    See Also
    --------
    load_pipeline : Takes the name of the repository.

    Examples
    --------
    Once you are logged in::

        save_pipeline(pipe, "birds", license="cc-by-4.0")
        push_to_hub("birds", "me/birds")
    """
    folder = Path(folder)
    for name in (MODEL_FILE, CARD_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"The folder {str(folder)!r} has no {name}; save_pipeline makes one."
            )
    card = (folder / CARD_FILE).read_bytes()
    kept = f"The folder {str(folder)!r} is unharmed and can be pushed again"
    with _explained(repo_id, kept):
        hub = _hub(token)
        url = hub.create_repo(repo_id, private=private, exist_ok=True)
        card = card.replace(load_line(REPOSITORY).encode(), load_line(url.repo_id).encode())
        hub.create_commit(
            url.repo_id,
            [
                CommitOperationAdd(MODEL_FILE, folder / MODEL_FILE),
                CommitOperationAdd(CARD_FILE, card),
            ],
            commit_message=commit_message or f"A pipeline of skcandle {_version.__version__}",
        )
    return str(url)


def download(repo_id, revision=None, token=None):
    """Path of the model file of a repository, in the Hub's cache.

    Parameters
    ----------
    repo_id : str or path-like
        What is no folder here.
    revision, token : str or None

    Returns
    -------
    path : str
    """
    missing = f"There is no folder {str(repo_id)!r}, and no repository of the Hub has that name"
    if not isinstance(repo_id, str) or repo_id.count("/") != 1:
        raise FileNotFoundError(f"{missing}; a repository is 'owner/name'.")
    try:
        with _explained(repo_id, "There is no folder of that name, either"):
            return _hub(token).hf_hub_download(repo_id, MODEL_FILE, revision=revision)
    except ValueError as error:
        raise FileNotFoundError(f"{missing}; a repository is 'owner/name'.") from error


def _hub(token):
    return HfApi(token=token, library_name="skcandle", library_version=_version.__version__)


@contextmanager
def _explained(repo_id, note):
    """Whatever goes wrong with the Hub, as one error that says what to do.

    Parameters
    ----------
    repo_id : str
    note : str
        What is said at the end.
    """
    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is no name of a repository ({first_line(error)}); use 'owner/name'."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a file here, such as a full disk
        raise HubError(f"{repo_id!r}: {_reason(error)}. {note}.") from error


def _reason(error):
    """What happened, and the remedy; special errors come before the general ones."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 forbids the network; unset it, and start Python again"
    if isinstance(error, LocalEntryNotFoundError):
        return (
            "it was not downloaded before, and the Hugging Face Hub cannot be reached; check the "
            "network, and whether HF_HUB_OFFLINE is set"
        )
    if isinstance(error, LocalTokenNotFoundError):
        return f"nobody is logged in to the Hugging Face Hub; {LOG_IN}"
    if isinstance(error, GatedRepoError):
        return "its owner has to grant you access; ask for it on its page on the Hub"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such repository on the Hub, or it is private; {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision; leave it out for the latest"
    if isinstance(error, EntryNotFoundError):
        return f"the repository has no {MODEL_FILE}, so it is not of save_pipeline"
    if isinstance(error, HfHubHTTPError) and _status(error) == 401:
        return f"the Hugging Face Hub does not accept your token; {LOG_IN} that is valid"
    if isinstance(error, HfHubHTTPError) and _status(error) == 403:
        return f"you may not do that there; {LOG_IN} with the right to"
    return (
        f"the Hugging Face Hub did not answer as expected ({type(error).__name__}: "
        f"{first_line(error)}); check the network, and try again"
    )


def _status(error):
    return getattr(error.response, "status_code", None)
