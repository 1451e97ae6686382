#!/usr/bin/env bash
# Runs benchmarks.speed.cuda from the source tree, without a network.
#
#     benchmarks/speed/cuda.sh --wheels                  # on any machine with a network, beforehand
#     benchmarks/speed/cuda.sh                           # on a machine with an NVIDIA card
#     benchmarks/speed/cuda.sh --device cpu --small      # a rehearsal
#
# The first command stores what a machine with PyTorch, torchvision, scikit-learn, Pillow,
# huggingface_hub, tqdm and pytest may still lack, in build/wheels, which git ignores.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
wheels=build/wheels
lacking=(open_clip_torch ftfy wcwidth skops prettytable threadpoolctl typer hypothesis safetensors timm)
if [ "${1:-}" = --wheels ]; then
    exec "$python" -m pip download --no-deps --only-binary :all: --python-version 3.12 \
        --platform manylinux2014_x86_64 --dest "$wheels" "${lacking[@]}"
fi
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"
if [ -d "$wheels" ]; then
    packages=$(mktemp -d)
    trap 'rm -r "$packages"' EXIT
    for wheel in "$wheels"/*.whl; do
        name=$(basename "$wheel" | cut -d- -f1)
        if ! "$python" -m pip show --quiet "$name"; then
            "$python" -m pip install --quiet --no-index --no-deps --target "$packages" "$wheel"
        fi
    done
    export PYTHONPATH="$PYTHONPATH:$packages"
fi
"$python" -m benchmarks.speed.cuda "$@"
