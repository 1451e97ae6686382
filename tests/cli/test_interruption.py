"""Ctrl-C, in a process of its own."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import random_images

from skcandle import CLIPFeaturizer

SECONDS = 120
# the command, with a model that takes its time, so that it is not done when it is interrupted
SLOW_COMMAND = """
import time
from skcandle.cli import main
from skcandle.clip._model import LoadedModel

encode = LoadedModel.encode_images

def slowly(self, pixels):
    time.sleep(0.5)
    return encode(self, pixels)

LoadedModel.encode_images = slowly
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_leaves_a_cache_that_is_used_and_no_half_file(tmp_path, encoded):
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    paths = []
    for i, image in enumerate(random_images(2500)):
        path = photos / f"class {i % 2}" / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize((128, 128)).save(path)
        paths.append(str(path))
    output = tmp_path / "model.skops"
    command = [sys.executable, "-c", SLOW_COMMAND, "fit", photos, "-o", output, "--cache", cache]
    process = subprocess.Popen(
        [*map(str, command), "--model", "emoji-clip"], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + SECONDS
    while not list(cache.glob("*")) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.7)  # some are encoded by then
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, message
    assert message.splitlines()[-1].startswith("Interrupted. Finished embeddings are in the cach")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    CLIPFeaturizer("emoji-clip", cache=str(cache)).transform(paths)
    assert sum(encoded) < len(paths)
