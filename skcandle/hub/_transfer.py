"""Upload to the Hugging Face Hub, and download from it."""

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
LOG_IN = "log in with huggingface_hub.login(), or pass a token"


def push_to_hub(
    folder: _typing.Path,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload a folder from :func:`save_pipeline` to the Hugging Face Hub.

    Read the model card first, and edit ``README.md`` where needed. Only ``README.md`` and
    ``model.skops`` are uploaded, no other files of the folder.

    Parameters
    ----------
    folder : str or path-like
        It stays unchanged. In the uploaded card, the code that loads the pipeline names the
        repository.

    repo_id : str
        ``"owner/name"``, or ``"name"`` for one of your own. Created if it does not exist.

    private : bool, default=True
        Whether a new repository is private. An existing repository keeps its visibility.

    token : str, default=None
        Access token with write permission; by default the one you are logged in with.

    commit_message : str, default=None
        By default, it names the version of skcandle.

    Returns
    -------
    url : str
        URL of the repository.

    Raises
    ------
    OSError
        If the folder lacks one of the files.
    ValueError
        If `repo_id` is not a valid repository name.
    HubError
        If the Hub cannot be reached, or refuses the upload. The folder can be pushed again.

    See Also
    --------
    load_pipeline : Load a pipeline from a repository.

    Examples
    --------
    After you have logged in::

        save_pipeline(pipe, "birds", license="cc-by-4.0")
        push_to_hub("birds", "me/birds")
    """
    folder = Path(folder)
    for name in (MODEL_FILE, CARD_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"The folder {str(folder)!r} has no {name}; save_pipeline writes one."
            )
    card = (folder / CARD_FILE).read_bytes()
    kept = f"The folder {str(folder)!r} is unchanged and can be pushed again"
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
    """Download the model file of a repository into the cache of the Hub.

    Parameters
    ----------
    repo_id : str or path-like
        Not the path of a folder or file.
    revision, token : str or None

    Returns
    -------
    path : str
    """
    missing = f"There is no folder {str(repo_id)!r}, and this is not the name of a repository"
    if not isinstance(repo_id, str) or repo_id.count("/") != 1:
        raise FileNotFoundError(f"{missing}, which would be 'owner/name'.")
    try:
        with _explained(repo_id, "There is no folder with that name either"):
            return _hub(token).hf_hub_download(repo_id, MODEL_FILE, revision=revision)
    except ValueError as error:
        raise FileNotFoundError(f"{missing}, which would be 'owner/name'.") from error


def _hub(token):
    return HfApi(token=token, library_name="skcandle", library_version=_version.__version__)


@contextmanager
def _explained(repo_id, note):
    """Turn any failure of the Hub into one error that says what to do.

    Parameters
    ----------
    repo_id : str
    note : str
        The end of the message.
    """
    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is not a repository name ({first_line(error)}); use 'owner/name'."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # concerns a local file, for example on a full disk
        raise HubError(f"{repo_id!r}: {_reason(error)}. {note}.") from error


def _reason(error):
    """What happened, and what to do; specific errors are tested before general ones."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 forbids the network; unset it and restart Python"
    if isinstance(error, LocalEntryNotFoundError):
        return (
            "it was not downloaded before, and the Hugging Face Hub cannot be reached; check the "
            "network and whether HF_HUB_OFFLINE is set"
        )
    if isinstance(error, LocalTokenNotFoundError):
        return f"you are not logged in to the Hugging Face Hub; {LOG_IN}"
    if isinstance(error, GatedRepoError):
        return "its owner has to grant you access; request it on the page of the repository"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such repository on the Hub, or it is private; {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision; leave revision out for the latest one"
    if isinstance(error, EntryNotFoundError):
        return f"the repository has no {MODEL_FILE}, so it was not made by save_pipeline"
    if isinstance(error, HfHubHTTPError) and _status(error) == 401:
        return f"the Hugging Face Hub does not accept your token; {LOG_IN} that is valid"
    if isinstance(error, HfHubHTTPError) and _status(error) == 403:
        return f"your token does not allow this; {LOG_IN} that does"
    return (
        f"the Hugging Face Hub did not answer as expected ({type(error).__name__}: "
        f"{first_line(error)}); check the network, and try again"
    )


def _status(error):
    return getattr(error.response, "status_code", None)
