#!/usr/bin/env bash
# Lint, types and the whole test suite; arguments go to pytest. Needs no network once installed, and no GPU.
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repo"
install_debian_packages flite espeak-ng shellcheck slurmctld slurmd slurm-client munge iproute2
install_compiler
install_python voices,pitch,judges,dev
export OMP_NUM_THREADS=1
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$PYTHON" -m pytest -n 2 --dist loadfile "$@"
