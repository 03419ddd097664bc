#!/usr/bin/env bash
# Gathers the wheels that benchmarks/gpu.sh installs: what a machine lacks that has torch and transformers but no network
# (docs/gpu.md). Run it where the package index can be reached. usage: benchmarks/gpu_wheels.sh [FOLDER [PYTHON]]
set -euo pipefail
out=${1:-.whl}; python=${2:-3.12}; mkdir -p "$out"
linux=(manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014)
platforms=(--platform any); for kind in "${linux[@]}"; do platforms+=(--platform "${kind}_x86_64"); done
get() {
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
    "${platforms[@]}" -d "$out" "$@"
}
get hydra-core==1.3.8 omegaconf==2.3.1 platformdirs filelock rich moocore==0.3.2 cffi peft==0.21.2
get trl==1.16.0 datasets dill multiprocess xxhash # the other side of a training step
python3 -m pip wheel -q --no-deps -w "$out" antlr4-python3-runtime==4.9.3 # Hydra's parser; published as source only
du -sh "$out"
