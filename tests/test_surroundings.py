"""The library uses neither the network nor folders that it is not given.

The tests run code in separate processes, in which Python's audit events report every attempted
connection and every file opened for writing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import random_images

SECONDS = 220
# Records connections and written files, and refuses connections.
WATCH = """
import json, os, sys

asked, written = [], []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "sqlite3.connect",
}

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        asked.append(event)
        raise RuntimeError("refused")  # an OSError would be retried
    if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
        written.append(args[0])
    elif event in CHANGING:
        written.append(args[0])

def report():
    paths = [os.path.abspath(os.fsdecode(path)) for path in written if not isinstance(path, int)]
    print(json.dumps([asked, paths]))

sys.addaudithook(watch)
"""
END_TO_END = """
import sys
from pathlib import Path

import joblib

from skcandle import clear_memory, make_candle_pipeline
from skcandle.cli._app import app
from skcandle.inspection import ImageReport

given = Path(sys.argv[1])
paths = sorted(map(str, (given / "photos").rglob("*.png")))
labels = [Path(path).parts[-2] for path in paths]
pipe = make_candle_pipeline("emoji-clip", new_classes=["okapi"], cache=given / "cache")
pipe.fit(paths, labels).add_classes(["saola"]).predict_proba(paths)
pipe["clip"].get_feature_names_out()
clear_memory()
pipe.predict(paths)
joblib.dump(pipe, given / "pipe.joblib")
ImageReport(pipe, paths, labels).save(given / "report.html")
for command in (
    f"fit {given}/photos -o {given}/model.skops --model emoji-clip --cache {given}/cache",
    f"predict {given}/model.skops {given}/photos -o {given}/answers.csv --cache {given}/cache "
    f"--sort-into {given}/sorted",
    f"predict {given}/photos --classes apple,pear --model emoji-clip --no-cache -o {given}/a.jsonl",
    f"add {given}/model.skops saola -o {given}/more.skops",
):
    app(command.split(), standalone_mode=False)
report()
"""


def run(code, folder, *args, **variables):
    """Run a watched process with new home, temporary and working folders."""
    places = {name: folder / name for name in ("home", "temporary", "working")}
    for place in places.values():
        place.mkdir()
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HF_", "XDG_", "SKCANDLE_", "TORCH"))
    }
    environment = kept | {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["temporary"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])),
    }
    result = subprocess.run(
        [sys.executable, "-c", WATCH + code, *map(str, args)],
        env=environment | variables,
        cwd=places["working"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    found = {str(path) for place in places.values() for path in place.rglob("*")}
    # PyTorch creates an empty folder.
    return result, {path for path in found if "torchinductor" not in path}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="names of folders")
def test_the_bundled_model_needs_no_network_and_writes_only_to_given_folders(tmp_path):
    pytest.importorskip("cleanlab", reason="the report")
    given = tmp_path / "given"
    for i, image in enumerate(random_images(12)):
        path = given / "photos" / ("ant" if i % 2 else "bee") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    result, found = run(END_TO_END, tmp_path, given)
    assert result.returncode == 0, result.stderr
    asked, written = json.loads(result.stdout.splitlines()[-1])
    assert asked == []
    temporary = tmp_path / "temporary"
    assert found == set()
    outside = {path for path in written if not Path(path).is_relative_to(given)} - {os.devnull}
    assert [path for path in outside if not Path(path).is_relative_to(temporary)] == []
    names = {path.name for path in given.iterdir()}
    assert names >= {"cache", "pipe.joblib", "report.html", "model.skops", "answers.csv", "sorted"}
    assert len(written) > 10


MISSING = """
from skcandle import CLIPFeaturizer

def ask_for(name):
    asked.clear()
    try:
        CLIPFeaturizer(name).transform([__import__("PIL.Image").Image.new("RGB", (9, 9))])
    except OSError as error:
        print(json.dumps([f"{type(error).__name__}: {error}", bool(asked)]))

ask_for("ViT-B-16-quickgelu")
ask_for("hf-hub:owner/name")
"""
COMMAND = """
from skcandle.cli._app import app
import atexit
atexit.register(report)
app(["predict", sys.argv[1], "--classes", "ant, bee", *sys.argv[2:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("offline", ["0", "1"])
def test_missing_weights_are_requested_only_if_the_network_is_allowed(tmp_path, offline):
    result, _ = run(MISSING, tmp_path, HF_HUB_OFFLINE=offline)
    assert result.returncode == 0, result.stderr
    for name, line in zip(["ViT-B", "hf-hub"], result.stdout.splitlines(), strict=True):
        message, is_asked = json.loads(line)
        assert message.startswith(f"WeightsNotAvailableError: model_name='{name}")
        assert message.endswith("then copy the same folder from there to here.")
        assert is_asked == (offline == "0")


@pytest.mark.slow
def test_the_offline_command_explains_missing_weights_in_one_sentence(tmp_path):
    random_images(1)[0].save(tmp_path / "a.png")
    arguments = [tmp_path / "a.png", "--no-cache", "--offline"]
    result, found = run(COMMAND, tmp_path, *arguments)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: model_name='ViT-B-16-quickgelu', pretrained='openai': cannot")
    assert "CLIPFeaturizer('ViT-B-16-quickgelu', 'openai').encode_text(['a'])" in line
    assert json.loads(result.stdout)[0] == []
    assert found == set()
