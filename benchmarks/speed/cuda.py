"""Check and measure everything that runs on a GPU, in parts.

    python -m benchmarks.speed.cuda                          # about ten minutes on a card
    python -m benchmarks.speed.cuda --parts equality files
    python -m benchmarks.speed.cuda --device cpu --small     # rehearsal without a card

Each part is a process of at most two minutes, and all together take at most nine. The table of a
part goes to FOLDER/PART.md line by line, and its warnings and errors go to FOLDER/PART.log. A part
that fails or is stopped loses no results. FOLDER/report.md joins all tables. The exit status is 1
if a part failed. Weights are random, and the parts make their own images: nothing needs a network.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.speed.cuda_parts import PARTS
from benchmarks.speed.machine import processor

RESULTS = Path("benchmarks/results")
SECONDS_PER_PART, SECONDS_IN_ALL = 120, 540


def command_of(name, device, is_small):
    command = [sys.executable, "-m", "benchmarks.speed.cuda_parts", name, "--device", device]
    return [*command, "--small"] if is_small else command


def run_part(name, device, is_small, folder, limit=SECONDS_PER_PART):
    """Run a part in a process, and say how it ended.

    Parameters
    ----------
    name : str
    device : {"cuda", "cpu"}
    is_small : bool
    folder : Path
    limit : float
        Seconds after which the part is stopped, with all processes that it has started.

    Returns
    -------
    ending : str
        "passed", "STOPPED after 120 s", "FAILED (exit status 1)" or "NOT RUN, no time was left".
    """
    with open(folder / f"{name}.md", "w") as table, open(folder / f"{name}.log", "w") as log:
        if limit <= 0:
            return "NOT RUN, no time was left"
        command = command_of(name, device, is_small)
        part = subprocess.Popen(command, stdout=table, stderr=log, start_new_session=True)
        try:
            status = part.wait(limit)
        except subprocess.TimeoutExpired:
            return f"STOPPED after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):  # nothing is left of it
                os.killpg(part.pid, signal.SIGKILL)
            part.wait()
    return "passed" if status == 0 else f"FAILED (exit status {status})"


def report(device, endings, folder):
    """One text with the machine, how every part ended, and the tables of all parts."""
    lines = [
        f"# {processor(device)}",
        f"\nPython {sys.version.split()[0]}, PyTorch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, {torch.get_num_threads()} threads of PyTorch on "
        f"{processor()}\n",
        "| part | result | seconds |\n| --- | --- | ---: |",
    ]
    lines += [f"| {name} | {ending} | {taken:.0f} |" for name, (ending, taken) in endings.items()]
    for name in endings:
        lines.append(f"\n## {name}\n\n{(folder / f'{name}.md').read_text().strip()}")
        if endings[name][0] != "passed":
            last = (folder / f"{name}.log").read_text().strip().splitlines()[-20:]
            lines.append("\nLast lines of its log:\n\n```\n" + "\n".join(last) + "\n```")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="small sizes, for a rehearsal")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--folder", type=Path, help="default: one in results, named by the card")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here; --device cpu --small is a rehearsal")
    card = re.sub(r"\W+", "_", processor(args.device)).strip("_")
    folder = args.folder or RESULTS / f"cuda_{card}"
    folder.mkdir(parents=True, exist_ok=True)
    endings, end = {}, time.perf_counter() + SECONDS_IN_ALL
    for name in args.parts:
        start = time.perf_counter()
        limit = min(SECONDS_PER_PART, end - start)
        ending = run_part(name, args.device, args.small, folder, limit)
        endings[name] = ending, time.perf_counter() - start
        print(f"{name}: {ending}, {endings[name][1]:.0f} s", flush=True)
        (folder / "report.md").write_text(report(args.device, endings, folder))
    print(f"\n{(folder / 'report.md').read_text()}")
    return int(any(ending != "passed" for ending, _ in endings.values()))


if __name__ == "__main__":
    sys.exit(main())
