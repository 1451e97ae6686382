"""The recipes of doc/batch_engines.rst, with a worker that dies in the middle.

CONTRIBUTING.rst says how to run them; they are skipped where an engine is not installed.
"""

import os
import re
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from odd_folder import emoji_of

import skcandle
from skcandle import CLIPFeaturizer, make_candle_pipeline
from skcandle.hub import save_pipeline

pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("dask.dataframe")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # an engine takes a minute to start on a busy machine
    pytest.mark.filterwarnings("default::FutureWarning", "default::DeprecationWarning"),
]

PAGE = Path(__file__).parents[2] / "doc" / "batch_engines.rst"
RECIPE = re.compile(
    r"^\.\. code-block:: python\n   :name: ([\w-]+)\n\n((?:   .*\n|\n)+)", re.MULTILINE
)
RECIPES = {name: dedent(code) for name, code in RECIPE.findall(PAGE.read_text(encoding="utf-8"))}
needs = {
    engine: pytest.mark.skipif(find_spec(engine) is None, reason=f"needs {engine}")
    for engine in ["ray", "pyspark", "daft"]
}
NAMES = ["cat", "lemon", "apple"]


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The folder /shared of the page."""
    from skcandle.scale_out import encode_dataset

    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        for i in range(4):
            emoji_of(name, i % 2).resize((64 + i, 64)).save(tmp_path / "photos" / f"{name}{i}.png")
    paths = sorted(map(str, (tmp_path / "photos").iterdir()))
    labels = [Path(path).stem[:-1] for path in paths]
    pipe = make_candle_pipeline("emoji-clip").fit(paths, labels)
    assert pipe.predict(paths).tolist() == labels
    save_pipeline(pipe, tmp_path / "model")
    encode_dataset(paths, tmp_path / "embeddings", CLIPFeaturizer("emoji-clip"), shard_size=5)
    (tmp_path / "photos" / "broken.png").write_bytes(b"broken")
    return tmp_path


@pytest.fixture
def one_worker_dies(shared, monkeypatch):
    """From now on, the second batch kills its process; all other batches get answers."""
    tokens = shared / "tokens"
    tokens.mkdir()
    (tokens / "1").touch()
    (tokens / "2").touch()

    class Dying(skcandle.BatchPredictor):
        def __call__(self, batch):
            for token in sorted(tokens.iterdir()):
                try:
                    token.unlink()
                except FileNotFoundError:  # taken by another process
                    continue
                if token.name == "2":
                    os.kill(os.getpid(), signal.SIGKILL)
                break
            return super().__call__(batch)

    monkeypatch.setattr(skcandle, "BatchPredictor", Dying)
    yield
    assert not list(tokens.iterdir())


def run(name, shared):
    """Run a recipe in the folder, with small batches."""
    code = (
        RECIPES[name].replace("/shared", str(shared)).replace("/tmp/cache", str(shared / "cache"))
    )
    exec(code.replace("batch_size=256", "batch_size=2"), {"__name__": "recipe"})


def check_answers(shared):
    """Every photo has its answer, once."""
    table = pd.concat(map(pd.read_parquet, (shared / "answers").glob("*.parquet")))
    table = table.set_index(table["path"].str.rpartition("/")[2]).sort_index()
    assert table.index.tolist() == sorted(path.name for path in (shared / "photos").iterdir())
    broken = table.loc["broken.png"]
    assert broken["label"] == "" and np.isnan(broken["probability"])
    assert "not of a known image format" in broken["error"]
    table = table.drop("broken.png")
    assert table["label"].tolist() == table.index.str.replace(r"\d.png", "", regex=True).tolist()
    assert table["probability"].between(0.5, 1).all() and (table["error"] == "").all()


def check_answers_of_stored(shared):
    table = pd.concat(map(pd.read_parquet, (shared / "answers_of_stored").glob("*.parquet")))
    stored = pd.concat(map(pd.read_parquet, (shared / "embeddings").glob("*.parquet")))
    assert sorted(table["key"]) == sorted(stored["key"]) and len(table) == 12
    labels = [Path(key).stem[:-1] for key in table["key"]]
    assert table["label"].tolist() == labels


def test_recipes_have_at_most_twenty_lines():
    assert sorted(RECIPES) == sorted(
        f"{engine}{kind}" for engine in ["ray", "spark", "daft"] for kind in ["", "-stored"]
    )
    assert max(len(code.strip().splitlines()) for code in RECIPES.values()) <= 20


@pytest.fixture
def ray(shared):
    import ray

    ray.init(num_cpus=4, include_dashboard=False)  # two to read, two for the workers
    yield
    ray.shutdown()


@needs["ray"]
def test_ray_answers_all_photos_although_a_worker_dies(shared, ray, one_worker_dies):
    run("ray", shared)
    check_answers(shared)


@needs["ray"]
def test_ray_reads_stored_embeddings(shared, ray):
    run("ray-stored", shared)
    check_answers_of_stored(shared)


@pytest.fixture
def spark(shared):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
    size = "spark.sql.execution.arrow.maxRecordsPerBatch"
    with builder.config(size, "2").getOrCreate():
        yield


@needs["pyspark"]
def test_spark_answers_all_photos_although_a_worker_dies(shared, spark, one_worker_dies):
    run("spark", shared)
    check_answers(shared)


@needs["pyspark"]
def test_spark_reads_stored_embeddings(shared, spark):
    run("spark-stored", shared)
    check_answers_of_stored(shared)


@needs["daft"]
def test_daft_answers_all_photos_in_a_second_run_if_a_worker_dies(shared, one_worker_dies):
    with pytest.raises(RuntimeError, match="closed the connection unexpectedly"):
        run("daft", shared)
    run("daft", shared)
    check_answers(shared)


@needs["daft"]
def test_daft_reads_stored_embeddings(shared):
    run("daft-stored", shared)
    check_answers_of_stored(shared)
