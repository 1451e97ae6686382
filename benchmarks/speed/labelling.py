"""Time from a label to new answers while labelling.

    python -m benchmarks.speed.labelling

Synthetic features of 512 columns. Before each measurement there are two labels per class. *Click*
is the time from the request that labels an image to the response with the new answers of 100 images
on the screen, through HTTP; *slowest click* is that of a label after which images without labels
teach again. *Next 100* is the time to choose further images among those that earlier answers
select, and *all* the time to the answers of all images. Medians of twenty labels, and in brackets
the processor time of all threads, which other processes disturb less. Prints a Markdown table.
"""

import argparse
import json
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import torch
import uvicorn

from benchmarks.accuracy.protocol import synthetic_task
from benchmarks.speed.machine import processor
from skcandle.labelling import LabellingSession
from skcandle.labelling._journal import Journal
from skcandle.labelling._server import create_app

N_LABELS = 20
ON_SCREEN = 100


def make_session(n_images, n_classes, n_features, journal):
    """A session with two labels per class, and the classes of all images."""
    task = synthetic_task(n_classes, 3 * n_classes, n_features)
    names = [f"class {i}" for i in range(len(task.T))]
    rng = np.random.default_rng(0)
    y = rng.integers(len(names), size=n_images)
    X = task.T[y] + rng.normal(size=(n_images, n_features)).astype(np.float32) / 16
    session = LabellingSession(
        range(n_images),
        X,
        classes=names,
        text_encoder=dict(zip(names, task.T, strict=True)),
        journal=journal,
    )
    for label, name in enumerate(names):
        session.label(np.flatnonzero(y == label)[:2], name)
    return session, y


def milliseconds(function, *args):
    """Time that a call takes, and its processor time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    function(*args)
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu)


@contextmanager
def served(session):
    """Serve a session; yields a function that sends a label as the page does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            create_app(session, "token", port=port), lifespan="off", log_level="warning"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        headers = {"Origin": f"http://127.0.0.1:{port}", "Cookie": f"skcandle-{port}=token"}
        connection = HTTPConnection("127.0.0.1", port)

        def send(image, name):
            content = {"indices": [image], "answer": name, "shown": None, "order": None}
            body = json.dumps(content | {"on_screen": list(range(ON_SCREEN))})
            connection.request("POST", "/label", body, headers)
            response = connection.getresponse()
            assert json.loads(response.read())["version"] == session.version, response.status

        yield send
        connection.close()
        server.should_exit = True
        thread.join()


def times(session, y):
    """Milliseconds of each part, of shape (4, 2)."""
    rows, names = [], session.class_names
    milliseconds(lambda: session.answers)
    with served(session) as send:
        for image in session.next(N_LABELS, "random").tolist():
            click = milliseconds(send, image, names[y[image]])
            following = milliseconds(lambda: session.next(ON_SCREEN, wait=False))
            rows.append((click, following))
    (click, following), slowest = np.median(rows, axis=0), np.max(rows, axis=0)[0]
    return click, slowest, following, milliseconds(lambda: session.answers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--classes", nargs="+", type=int, default=[100, 1_000])
    parser.add_argument("--features", type=int, default=512)
    args = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads; milliseconds\n")
    print("| images | classes | click | slowest click | next 100 | all |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_images, n_classes in zip(args.images, args.classes, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder, "labels.journal.jsonl"), Path(folder))
            session, y = make_session(n_images, n_classes, args.features, journal)
            cells = [f"{wall:,.0f} ({cpu:,.0f})" for wall, cpu in times(session, y)]
            session.close()
        print(f"| {n_images:,} | {n_classes:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
