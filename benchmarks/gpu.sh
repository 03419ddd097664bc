#!/usr/bin/env bash
# Tests and measures the suite on a bare GPU machine without a network, from a folder of wheels (docs/gpu.md).
# usage: benchmarks/gpu.sh [WHEELS [OUT [EARLIER]]] [-- options of benchmarks.gpu]     default: .whl report/gpu
# EARLIER is the runs.tar.gz of an earlier visit, whose study goes on. python3 has torch already. Nothing that is
# installed there is changed: wheels go to a folder of their own; and no setting of the card is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
places=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do places+=("$1"); shift; done
[ $# -gt 0 ] && shift
wheels=${places[0]:-.whl}; out=${places[1]:-report/gpu}; earlier=${places[2]:-}
site=${SITE:-/tmp/site}; runs=${RUNS:-/tmp/runs}
mkdir -p "$out" "$runs"
if compgen -G "$wheels/*.whl" >/dev/null; then
  python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$wheels"/*.whl
else
  echo "gpu.sh: no wheels in $wheels; going on with what python3 has" >&2
fi
if [ -n "$earlier" ]; then tar -xzf "$earlier" -C "$runs"; fi
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
# Every number is on disk as soon as it is known, so a limit from outside loses only the rest.
status=0
python3 -m benchmarks.gpu --minutes "${MINUTES:-8}" --out "$out" --runs "$runs" "$@" || status=$?
tar -czf "$out/runs.tar.gz" -C "$runs" . # one file travels where many would not
exit $status
