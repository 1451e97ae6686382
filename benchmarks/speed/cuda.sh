#!/usr/bin/env bash
# Runs every CUDA test and the benchmarks of encoding and fitting on a machine with an NVIDIA card, and
# writes one file named after the card. Takes about ten minutes. Needs an environment with
#     pip install ".[tests]" transformers sentence-transformers
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
card=$("$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA here"; print(torch.cuda.get_device_name())')
out="benchmarks/results/cuda_$(echo "$card" | tr -c 'A-Za-z0-9\n' '_').md"
{
    echo "# $card"
    echo
    "$python" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda)'
    echo
    echo '```'
    "$python" -m pytest -q -rA -k cuda tests 2>&1 | grep -E '^(PASSED|FAILED|ERROR|SKIPPED|[0-9]+ )' || true
    echo '```'
    echo
    "$python" -m benchmarks.speed.encode --device cuda 2>/dev/null
    echo
    "$python" -m benchmarks.speed.fit --quick --sizes 100,1250,512 2>/dev/null
} | tee "$out"
