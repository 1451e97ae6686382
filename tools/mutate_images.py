"""Damage images at random, and read them in the same way as CLIPFeaturizer.

    python tools/mutate_images.py --cases 100000 --seed 0

Each case is an image in one of several formats, damaged by one to four operations. It is read at
full and at reduced scale. Both must give pixels or an ordinary error within ten seconds of
processor time, ten minutes of elapsed time, and two gigabytes of memory. A crash, or a case that
exceeds these limits, ends the run. A case depends only on the seed and its number: ``--only N``
repeats it.
"""

import argparse
import collections
import faulthandler
import io
import os
import resource
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
from PIL import Image, features

from skcandle._images.reading import read_image
from skcandle.clip._preprocessing import Preprocessing

SECONDS, SECONDS_IN_ALL, BYTES, CHUNK = 10, 600, 2 * 2**30, 500
FORMATS = {
    "PNG": {},
    "PNG of a palette": {"mode": "P"},
    "JPEG": {"quality": 90},
    "JPEG, progressive": {"progressive": True, "icc_profile": bytes(128)},
    "JPEG, CMYK": {"mode": "CMYK"},
    "GIF": {"mode": "P"},
    "BMP": {},
    "TIFF": {},
    "TIFF, deflated": {"compression": "tiff_adobe_deflate"},
    "TIFF, LZW": {"compression": "tiff_lzw"},
    "WEBP": {},
    "AVIF": {},
    "JPEG2000": {},
    "ICO": {},
    "PPM": {},
    "TGA": {"compression": "tga_rle"},
    "PCX": {},
    "SGI": {},
    "DDS": {},
    "EPS": {},
}
OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
EXTREMES = [b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00"]


@cache
def originals():
    """Encoded images by name of the format, for formats that this Pillow can write."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = coarse.resize((64, 48), Image.Resampling.BICUBIC)
    encoded = {}
    for name, options in FORMATS.items():
        kind, options = name.split(",")[0].split(" ")[0], dict(options)
        if kind in OPTIONAL and not features.check(OPTIONAL[kind]):
            continue
        image = picture.convert(options.pop("mode", "RGB"))
        if kind in ("PNG", "JPEG", "WEBP", "TIFF"):
            options["exif"] = image.getexif()
            options["exif"][0x0112] = 6
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def mutated(seed, case):
    """Name of the format, and the damaged bytes, of one case."""
    rng = np.random.default_rng([seed, case])
    encoded = originals()
    name = list(encoded)[rng.integers(len(encoded))]
    data = bytearray(encoded[name])
    for _ in range(rng.integers(1, 5)):
        # damage the header as often as the rest of the file
        limit = len(data) if rng.random() < 0.5 else min(len(data), 128)
        at, length = int(rng.integers(max(limit, 1))), int(rng.integers(1, 33))
        match rng.integers(6):
            case 0:  # bits
                for i in rng.integers(0, max(limit, 1), size=rng.integers(1, 9)):
                    if i < len(data):
                        data[i] ^= 1 << int(rng.integers(8))
            case 1:
                del data[at + 1 :]
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                extreme = EXTREMES[rng.integers(len(EXTREMES))]
                data[at : at + len(extreme)] = extreme
            case _:
                other = list(encoded.values())[rng.integers(len(encoded))]
                data[at : at + length] = other[at : at + length]
    return name, bytes(data)


@cache
def preprocessing():
    return Preprocessing({"size": 64, "mean": (0.5,) * 3, "std": (0.2,) * 3})


def outcome(data, exact):
    """ "pixels", or the name of an error."""
    try:
        preprocessing()(read_image(data), exact)
    except MemoryError:
        raise
    except Exception as error:
        return type(error).__name__
    return "pixels"


def run_chunk(seed, first, last):
    """Count the outcomes of some cases, and measure the slowest case."""
    warnings.simplefilter("ignore")
    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff reports every damaged file there
    faulthandler.register(
        signal.SIGPROF, file=stderr, chain=True
    )  # the default handler then ends the process
    counts, longest = collections.Counter(), (0.0, first)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, resource.RLIM_INFINITY))
    for case in range(first, last):
        name, data = mutated(seed, case)
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        faulthandler.dump_traceback_later(SECONDS_IN_ALL, exit=True, file=stderr)
        try:
            outcomes = [outcome(data, exact) for exact in (True, False)]
        except BaseException as error:
            raise RuntimeError(f"case {case} ({name}): {type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
        longest = max(longest, (time.process_time() - start, case))
        if (outcomes[0] == "pixels") != (outcomes[1] == "pixels"):
            raise RuntimeError(
                f"case {case} ({name}): {outcomes[0]} at full scale, but {outcomes[1]}"
            )
        counts[name, outcomes[0]] += 1
    os.dup2(stderr, 2)
    os.close(stderr)
    return counts, longest


def report(seed, counts, longest, seconds):
    n_cases = sum(counts.values())
    print(
        f"{n_cases:,} cases of seed {seed} in {seconds:.0f} s without a crash; the slowest, number "
        f"{longest[1]}, took {longest[0]:.2f} s of processor time"
    )
    names = sorted({name for name, _ in counts})
    for name in names:
        own = {kind: n for (other, kind), n in counts.items() if other == name}
        errors = ", ".join(f"{kind} {n}" for kind, n in sorted(own.items()) if kind != "pixels")
        print(f"{name:20} pixels {own.get('pixels', 0):6}   {errors}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, metavar="N", help="run only this case")
    args = parser.parse_args()
    if args.only is not None:
        print(mutated(args.seed, args.only)[0], *run_chunk(args.seed, args.only, args.only + 1)[0])
        return
    start, counts, longest = time.perf_counter(), collections.Counter(), (0.0, 0)
    with ProcessPoolExecutor(args.jobs) as pool:
        chunks = [
            (first, pool.submit(run_chunk, args.seed, first, min(first + CHUNK, args.cases)))
            for first in range(0, args.cases, CHUNK)
        ]
        for first, chunk in chunks:
            try:
                some, slowest = chunk.result()
            except Exception as error:
                raise SystemExit(
                    f"Stopped in the {CHUNK} cases that start at {first}: {error}"
                ) from error
            counts += some
            longest = max(longest, slowest)
    report(args.seed, counts, longest, time.perf_counter() - start)


if __name__ == "__main__":
    main()
