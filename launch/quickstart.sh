#!/usr/bin/env bash
# Trains a small interleaved speech-text model on speech that it makes itself, and lets it speak: one command.
#   bash launch/quickstart.sh          the quickstart, at most 15 minutes on 2 cores
#   bash launch/quickstart.sh demo     the same path, larger (also launch/demo.sh)
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repo"
size=${1:-quickstart}
install_debian_packages flite espeak-ng
install_python voices
export PYTHON
started=$SECONDS
bash launch/path.sh "$size" "runs/$size"
echo "done in $((SECONDS - started)) s, installs aside"
cat <<TXT
Try it:
  .venv/bin/spiritlm generate --model runs/$size/model --text "Tom went to the lake with his mother." --output speech --out runs/$size/answer
TXT
