#!/usr/bin/env bash
# Trains a small interleaved speech-text model on speech that it makes itself, and lets it speak: one command.
#   bash launch/quickstart.sh          the quickstart, some 30 minutes on 2 cores
#   bash launch/quickstart.sh --expressive   the same, then again with pitch and style beside the units
#   bash launch/quickstart.sh demo     the same path, larger (also launch/demo.sh)
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repo"
size=quickstart
expressive=()
for argument in "$@"; do
    case $argument in
        --expressive) expressive=(--expressive) ;;
        quickstart | demo | tiny) size=$argument ;;
        *) echo "error: $argument: expected --expressive, or a size: quickstart, demo or tiny" >&2; exit 2 ;;
    esac
done
install_debian_packages flite espeak-ng
if [ ${#expressive[@]} -gt 0 ] || [ "$size" = demo ]; then # both track F0
    install_compiler
    install_python voices,judges,pitch
else
    install_python voices,judges
fi
export PYTHON
started=$SECONDS
bash launch/path.sh "$size" "runs/$size" ${expressive[@]+"${expressive[@]}"}
echo "done in $((SECONDS - started)) s, installs aside"
cat <<TXT
Try it:
  .venv/bin/spiritlm generate --model runs/$size/model --text "Tom went to the lake with his mother." --output speech --out runs/$size/answer
TXT
