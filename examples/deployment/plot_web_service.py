"""
Behind a web address
====================

A service that answers photographs with labels, in a file of its own. It uses FastAPI; the library
has no server. The model is loaded before the first request (a warm start), and threads answer
requests at the same time, which fitted pipelines allow.
"""

# %%
# A pipeline to serve
# -------------------

import http.client
import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

from skcandle import make_candle_pipeline
from skcandle.datasets import load_emoji
from skcandle.hub import save_pipeline

emoji = load_emoji()
temporary = TemporaryDirectory()
folder = Path(temporary.name)
pipe = make_candle_pipeline("emoji-clip").fit(emoji.images, emoji.target)
save_pipeline(pipe, folder / "model")

# %%
# The service
# -----------
# The body of a request is the content of an image file. FastAPI runs a function that is not
# ``async`` in a thread, so that requests do not wait for one another. A photograph that cannot be
# read is the error of whoever sent it.

SERVICE = """
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from PIL import Image

from skcandle.exceptions import ImageReadError
from skcandle.hub import load_pipeline

pipe = load_pipeline("model")


@asynccontextmanager
async def warm_start(app):
    pipe.predict([Image.new("RGB", (224, 224))])  # loads the weights of CLIP
    yield


app = FastAPI(lifespan=warm_start)


async def body(request: Request):
    return await request.body()


@app.post("/predict")
def predict(photo: Annotated[bytes, Depends(body)], k: int = 3):
    try:
        labels, proba = pipe.top_k([photo], k)
    except ImageReadError as error:
        raise HTTPException(422, f"The photo {error.reasons[0]}") from error
    return dict(zip(labels[0].tolist(), proba[0].tolist()))
"""
(folder / "service.py").write_text(SERVICE)
print(f"{len(SERVICE.strip().splitlines())} lines")

# %%
# Start it, and ask
# -----------------

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = subprocess.Popen(
    [sys.executable, "-m", "uvicorn", "service:app", f"--port={port}", "--log-level=warning"],
    cwd=folder,
)


def post(connection, content):
    """Status and answer of the service to the content of a file."""
    connection.request("POST", "/predict", content)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def wait_for(port, n_seconds=120):
    for _ in range(10 * n_seconds):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError("the service did not start")


def file_of(image):
    file = io.BytesIO()
    image.resize((256, 256)).save(file, "JPEG", quality=90)
    return file.getvalue()


wait_for(port)
cat = file_of(emoji.images[list(emoji.target).index("cat")])
connection = http.client.HTTPConnection("127.0.0.1", port)
print(post(connection, cat))
print(post(connection, b"not an image"))

# %%
# Requests per second
# -------------------
# Clients send photographs one after the other, over a connection each. No two files are the same,
# because a byte follows the end of each image, so that no embedding comes from the cache. The
# clients share the processor with the service.

numbers = count()


def client(n_requests):
    """Seconds of each request."""
    connection, durations = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(n_requests):
        start = time.perf_counter()
        status, _ = post(connection, cat + next(numbers).to_bytes(4, "big"))
        durations.append(time.perf_counter() - start)
        assert status == 200
    return durations


N_REQUESTS = 240
n_clients, rates, medians = [1, 2, 4, 8], [], []
client(20)
for n in n_clients:
    start = time.perf_counter()
    with ThreadPoolExecutor(n) as threads:
        durations = np.concatenate(list(threads.map(client, [N_REQUESTS // n] * n)))
    rates.append(N_REQUESTS / (time.perf_counter() - start))
    medians.append(1000 * np.median(durations))
    print(f"{n} clients: {rates[-1]:.0f} requests per second, median {medians[-1]:.0f} ms")

server.terminate()
server.wait()

# %%
# More clients do not help once the processor is busy; they only wait longer. The next step is more
# processes (``uvicorn --workers``), each with a model of its own, or the ONNX file of
# :func:`skcandle.export.to_onnx`, which needs no PyTorch.

figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, values, title in zip(
    axes, (rates, medians), ("requests per second", "median time in ms"), strict=True
):
    axis.plot(n_clients, values, "o-", color="#0072B2")
    axis.set(xlabel="clients", title=title, xticks=n_clients, ylim=(0, 1.1 * max(values)))
figure.savefig("web_service.png", dpi=110)
print(f"figure: {Path('web_service.png').resolve()}")
