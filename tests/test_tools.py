"""Short runs of the long checks: they work, and they notice errors."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soak

TOOLS = Path(__file__).parents[1] / "tools"


def run(tool, *options):
    command = [sys.executable, TOOLS / tool, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return soak.Soak(tmp_path_factory.mktemp("soak"))


@pytest.mark.slow
def test_damaged_images_are_counted_by_format():
    done = run("mutate_images.py", "--cases", "100", "--seed", "3", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("100 cases of seed 3 in ")
    assert "PNG" in done.stdout


OFTEN = [name for name in soak.step_names() if name.partition("_")[2] not in soak.RARE]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::skcandle.exceptions.CacheWarning")
@pytest.mark.parametrize("name", [name for name in OFTEN if name != "fault_interrupt"])
def test_every_step_of_the_soak_passes(state, name):
    assert soak.run_step(state, soak.step_names().index(name), seed=1) == name


@pytest.mark.slow
def test_one_step_is_repeated_by_its_number():
    done = run("soak.py", "--only", str(soak.step_names().index("fault_interrupt")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fault_interrupt\n"


@pytest.fixture
def one_step(state, monkeypatch):
    monkeypatch.setattr(soak, "Soak", lambda folder: state)
    monkeypatch.setattr(soak, "step_names", lambda: ["step_predict"])


@pytest.mark.slow
def test_the_report_counts_steps(one_step, capsys):
    soak.soak(minutes=0, seed=5)
    report = capsys.readouterr().out
    assert "seed 5\n" in report
    assert "1 steps, all with the same results as in the clean run\nsteps: predict 1\n" in report
    assert "no more memory, files, threads or processes" in report


@pytest.mark.slow
def test_a_soak_that_uses_more_and_more_fails(one_step, monkeypatch):
    files = itertools.count(10)
    monkeypatch.setattr(soak, "use_now", lambda: soak.Use(100, next(files), 1, 0))
    with pytest.raises(SystemExit, match="more files than after a tenth"):
        soak.soak(minutes=0, seed=0)


@pytest.mark.slow
def test_the_soak_notices_another_result(state, capsys, monkeypatch):
    number = soak.step_names().index("step_predict")
    assert soak.run_step(state, number, seed=0) == "step_predict"
    wrong = {kind: proba + 1e-4 for kind, proba in state.proba.items()}
    monkeypatch.setattr(state, "proba", wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        soak.run_step(state, number, seed=0)
    assert f"in step {number}, step_predict, with seed 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_soak_notices_another_result_of_another_process(state, capfd, monkeypatch):
    monkeypatch.setattr(state, "X", state.X + np.float32(0.01))
    with pytest.raises(RuntimeError, match="a process ended with status"):
        soak.in_process(state.encode_cold)
    assert "Not equal to tolerance" in capfd.readouterr().err


def test_the_soak_notices_what_grows():
    first = soak.Use(megabytes=1000, files=10, threads=4, processes=1)
    assert soak.grown(first, first) == []
    assert soak.grown(first, first._replace(megabytes=1064, files=15)) == []
    assert soak.grown(first, first._replace(megabytes=1065)) == ["megabytes"]
    assert soak.grown(first, first._replace(files=16, processes=2)) == ["files", "processes"]
    later = first._replace(files=18, threads=8)
    assert soak.grown(first, later) == ["files", "threads"]
    assert soak.grown(first, later, n_killed_pools=2) == []


@pytest.mark.slow
def test_killed_writers_leave_whole_batches_and_no_wrong_row():
    pytest.importorskip("pyarrow")
    done = run("kill_writers.py", "--kills", "20")
    assert done.returncode == 0, done.stderr
    found = [line.split(",")[0] for line in done.stdout.splitlines()]
    assert found == ["cache: 20 kills", "shards: 20 kills"]
