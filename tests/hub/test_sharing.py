"""Pipelines in folders, and their way to the Hub and back; a folder stands in for the Hub."""

import os
import pickle
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import huggingface_hub.errors as hub_errors
import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

import skcandle
from skcandle import _files, make_candle_pipeline
from skcandle.exceptions import HubError
from skcandle.hub import _transfer, load_pipeline, push_to_hub, save_pipeline

FILES = ["README.md", "model.skops"]


def encode(prompts):
    return np.eye(len(prompts), 128)


@pytest.fixture(scope="module")
def with_code(quick_fit):
    """A pipeline with a function from this module."""
    return quick_fit(candle__text_encoder=encode)


@pytest.fixture
def folder(pipe, tmp_path):
    return save_pipeline(pipe, tmp_path / "ants")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- folders ---------------------------------------------------------------------------------


def test_a_loaded_pipeline_predicts_the_same(pipe, folder, images):
    for source in (folder, str(folder), folder / "model.skops"):
        assert_array_equal(load_pipeline(source).predict_proba(images), pipe.predict_proba(images))
    assert load_pipeline(folder).add_classes(["fox"]).classes_.tolist() == [
        "ant", "bee", "elk", "fox",
    ]  # fmt: skip


def test_a_folder_is_read_without_a_network(folder, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)
    assert load_pipeline(folder).classes_.tolist() == ["ant", "bee", "elk"]


def test_existing_files_are_replaced_only_on_request(pipe, folder):
    (folder / "notes.txt").write_text("notes")
    before = content(folder)
    with pytest.raises(FileExistsError, match=r"model.skops' already exists; overwrite=True"):
        save_pipeline(pipe, folder)
    assert content(folder) == before
    save_pipeline(pipe, folder, description="another card", overwrite=True)
    after = content(folder)
    assert b"another card" in after["README.md"] and after["notes.txt"] == b"notes"


def test_a_folder_is_made_with_those_above_it(pipe, tmp_path):
    folder = save_pipeline(pipe, tmp_path / "a" / "b")
    assert sorted(content(folder)) == FILES


def test_a_failure_leaves_the_files_as_they_were(pipe, folder, monkeypatch):
    before = content(folder)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device"):
        save_pipeline(pipe, folder, description="another card", overwrite=True)
    assert content(folder) == before


def test_a_file_in_the_place_of_the_folder(pipe, tmp_path):
    (tmp_path / "file").write_text("file")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        save_pipeline(pipe, tmp_path / "file")


def test_what_cannot_be_shared_is_refused_and_nothing_is_written(pipe, with_code, tmp_path):
    unfitted = make_candle_pipeline("emoji-clip")
    search = GridSearchCV(unfitted, {"candle__margin": [1]})
    for other in (unfitted, search, pipe["candle"]):
        with pytest.raises(TypeError, match=r"fitted pipeline .*\(for a search, its best"):
            save_pipeline(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"test_sharing.encode, .*_encoder as a CLIPFeaturizer"):
        save_pipeline(with_code, tmp_path / "other")
    with pytest.raises(TypeError, match="metrics"):
        save_pipeline(pipe, tmp_path / "other", metrics=[1])
    assert not (tmp_path / "other").exists()


def test_types_of_other_libraries_are_refused_by_name(with_code, tmp_path):
    skops.io.dump(with_code, tmp_path / "model.skops")
    with pytest.raises(ValueError, match=r"was not loaded, .*: test_sharing.encode\. If you trust"):
        load_pipeline(tmp_path)


def test_pickles_are_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "model.skops").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="not a skops file, and pickles are not loaded"):
        load_pipeline(tmp_path)
    assert not (tmp_path / "made").exists()


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no model.skops; save_pipeline writes one"):
        load_pipeline(tmp_path)
    for name in (tmp_path / "none", "none", "a/b/c", "bad name/x"):
        with pytest.raises(FileNotFoundError, match="no folder .* would be 'owner/name'"):
            load_pipeline(name)


def test_a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(ValueError, match="revision='main' .* on this machine; leave it out"):
        load_pipeline(folder, revision="main")


# --- the Hub ---------------------------------------------------------------------------------


class FakeHub:
    """Keeps repositories in folders, and records calls, whose arguments the real class checks."""

    def __init__(self, root):
        self.root, self.calls, self.fails = root, [], {}

    def api(self, *, token, library_name, library_version):
        assert (library_name, library_version) == ("skcandle", skcandle.__version__)
        api = create_autospec(_transfer_api, instance=True, spec_set=True)
        for name in ("create_repo", "create_commit", "hf_hub_download"):
            getattr(api, name).side_effect = self._recorded(name, token)
        return api

    def _recorded(self, name, token):
        def call(*args, **kwargs):
            self.calls.append((name, token, kwargs))
            if name in self.fails:
                raise self.fails[name]
            return getattr(self, name)(*args, **kwargs)

        return call

    def create_repo(self, repo_id, *, private, exist_ok):
        repo_id = repo_id if "/" in repo_id else f"me/{repo_id}"
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return Url(repo_id)

    def create_commit(self, repo_id, operations, *, commit_message):
        for operation in operations:
            path = self.root / repo_id / operation.path_in_repo
            with operation.as_file() as file:
                path.write_bytes(file.read())

    def hf_hub_download(self, repo_id, filename, *, revision):
        path = self.root / repo_id / filename
        if not path.parent.is_dir():
            raise error("RepositoryNotFoundError", 404)
        if not path.is_file():
            raise hub_errors.EntryNotFoundError("404")
        return str(path)


_transfer_api = _transfer.HfApi


class Url(str):
    def __new__(cls, repo_id):
        url = super().__new__(cls, f"https://hub/{repo_id}")
        url.repo_id = repo_id
        return url


def error(name, status):
    """An error of the Hub's client; its constructor differs between versions."""
    kind = getattr(hub_errors, name)
    exception = kind.__new__(kind, "message")
    exception.response = SimpleNamespace(status_code=status, headers={})
    return exception


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(_transfer, "HfApi", hub.api)
    return hub


def test_push_and_pull_give_the_same_answers(pipe, folder, hub, images):
    (folder / "photo.jpg").write_text("not to be uploaded")
    assert push_to_hub(folder, "me/ants", token="mine") == "https://hub/me/ants"
    assert sorted(content(hub.root / "me" / "ants")) == FILES
    again = load_pipeline("me/ants", revision="v1", token="theirs")
    assert_array_equal(again.predict_proba(images), pipe.predict_proba(images))
    created, uploaded, downloaded = hub.calls
    assert created[:2] == ("create_repo", "mine") and created[2]["private"] is True
    assert uploaded[2]["commit_message"] == f"A pipeline of skcandle {skcandle.__version__}"
    assert downloaded == ("hf_hub_download", "theirs", {"revision": "v1"})


def test_a_repository_is_public_on_request(folder, hub):
    push_to_hub(folder, "ants", private=False, commit_message="more ants")
    assert hub.calls[0][2] == {"private": False, "exist_ok": True}
    assert hub.calls[1][2]["commit_message"] == "more ants"


def test_the_card_names_the_repository_and_the_folder_stays(folder, hub):
    before = content(folder)
    for repository in ("me/ants", "them/ants"):
        push_to_hub(folder, repository)
        card = content(hub.root / repository)["README.md"]
        assert f'load_pipeline("{repository}")'.encode() in card
    assert content(folder) == before


def test_an_error_of_this_machine_is_not_blamed_on_the_hub(folder, hub):
    hub.fails["create_commit"] = PermissionError(13, "Permission denied", "model.skops")
    with pytest.raises(PermissionError, match="model.skops"):
        push_to_hub(folder, "me/ants")


def test_parameters_that_skops_does_not_know_are_made_plain(pipe, images, tmp_path):
    pd = pytest.importorskip("pandas")
    classes = pipe["candle"].classes_
    prior = pd.Series(np.full(len(classes), 1 / len(classes)), index=classes)
    pipe = type(pipe)([("clip", pipe["clip"]), ("candle", pipe["candle"].with_prior(prior))])
    again = load_pipeline(save_pipeline(pipe, tmp_path / "prior"))
    assert_array_equal(again.predict_proba(images), pipe.predict_proba(images))


def test_a_clip_in_a_folder_is_found_where_the_card_says(quick_fit, images, tmp_path):
    """The card names all parameters that contain the path of the author."""
    folder = tmp_path / "author"
    shutil.copytree(Path(skcandle.__file__).parent / "data" / "emoji-clip", folder)
    clip = skcandle.CLIPFeaturizer(f"local-dir:{folder}", None)
    pipe = quick_fit(clip=clip, candle__text_encoder=clip)
    saved = save_pipeline(pipe, tmp_path / "shared")
    code = [line for line in (saved / "README.md").read_text().splitlines() if "set_params" in line]
    folder.rename(tmp_path / "mine")
    skcandle.clear_memory()
    again = load_pipeline(saved)
    for line in code:
        exec(line, {"pipe": again, "path": f"local-dir:{tmp_path / 'mine'}"})
    assert len(code) == 2 and len(again.predict(images)) == len(images)
    assert "zebra" in again.add_classes(["zebra"]).classes_


def test_weights_in_a_path(pipe, tmp_path):
    clip = skcandle.CLIPFeaturizer("RN50", tmp_path / "weights.pt")
    pipe = type(pipe)([("clip", clip), ("candle", pipe["candle"])])
    saved = save_pipeline(pipe, tmp_path / "shared")
    assert str(tmp_path) not in (saved / "README.md").read_text()


def test_an_edited_card_is_uploaded_as_it_is(folder, hub):
    (folder / "README.md").write_bytes("caf\u00e9\r\n".encode("latin-1"))
    push_to_hub(folder, "ants")
    assert content(hub.root / "me" / "ants")["README.md"] == b"caf\xe9\r\n"


def test_a_folder_of_the_name_comes_before_the_hub(pipe, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pipeline(pipe, "me/ants")
    load_pipeline("me/ants")
    assert hub.calls == []


@pytest.mark.parametrize("missing", FILES)
def test_a_folder_without_both_files_is_not_pushed(folder, hub, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; save_pipeline writes one"):
        push_to_hub(folder, "ants")
    assert hub.calls == []


FAILURES = {
    "no token": (error("HfHubHTTPError", 401), "does not accept your token; log in with"),
    "read only": (error("HfHubHTTPError", 403), "or pass a token that does"),
    "server": (error("HfHubHTTPError", 500), "did not answer as expected"),
    "logged out": (hub_errors.LocalTokenNotFoundError("x"), "you are not logged in"),
    "connection": (ConnectionError("name\nresolution"), r"\(ConnectionError: name resolution\)"),
}


@pytest.mark.parametrize("method", ["create_repo", "create_commit"])
@pytest.mark.parametrize("raised, said", FAILURES.values(), ids=FAILURES)
def test_a_push_that_fails_can_be_repeated(pipe, folder, images, hub, method, raised, said):
    hub.fails[method] = raised
    with pytest.raises(HubError, match=f"^'me/ants': .*{said}.* can be pushed again.$") as caught:
        push_to_hub(folder, "me/ants")
    assert "\n" not in str(caught.value)
    assert_array_equal(load_pipeline(folder).predict(images), pipe.predict(images))
    del hub.fails[method]
    push_to_hub(folder, "me/ants")


MISSING = {
    "repository": (error("RepositoryNotFoundError", 404), "no such repository .* or it is private"),
    "gated": (error("GatedRepoError", 403), "its owner has to grant you access"),
    "revision": (error("RevisionNotFoundError", 404), "no such revision"),
    "file": (
        hub_errors.EntryNotFoundError("x"),
        "no model.skops, so it was not made by save_",
    ),
    "network": (hub_errors.LocalEntryNotFoundError("x"), "check the network"),
}


@pytest.mark.parametrize("raised, said", MISSING.values(), ids=MISSING)
def test_what_the_hub_does_not_have_is_explained(hub, raised, said):
    hub.fails["hf_hub_download"] = raised
    with pytest.raises(HubError, match=f"^'me/ants': .*{said}.* no folder with that name either"):
        load_pipeline("me/ants")


def test_offline_nothing_is_tried(folder):
    """The tests set HF_HUB_OFFLINE=1; this is the real client."""
    before = content(folder)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE=1 forbids the network; unset it"):
        push_to_hub(folder, "me/ants")
    assert content(folder) == before
    with pytest.raises(HubError, match="not downloaded before.* HF_HUB_OFFLINE"):
        load_pipeline("me/ants")


def test_an_invalid_repository_name(folder):
    with pytest.raises(ValueError, match="'bad name' is not a repository name"):
        push_to_hub(folder, "bad name")
