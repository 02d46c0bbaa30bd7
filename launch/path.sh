#!/usr/bin/env bash
# The whole path at one size: text -> recordings -> units -> language model -> speech -> figures.
#   launch/path.sh SIZE [RUN]     SIZE: quickstart, demo or tiny; RUN: folder to write (default runs/SIZE)
# Every stage skips what it has done before, so a run that was stopped is continued by the same command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
size=${1:?usage: launch/path.sh SIZE [RUN]}
run=${2:-runs/$size}
python=${PYTHON:-.venv/bin/python}

# compose PROGRAM RECIPE OUT [INPUT...] sets `line`; an input is FIELD or FIELD:FOLDER, a folder of this run
compose() {
    local program=$1 recipe=$2 input
    line=("$python" "$program" "$(dirname "$program")/recipes/$recipe-$size.toml" "out=$run/$3")
    shift 3
    for input in "$@"; do
        line+=("${input%%:*}=$run/${input#*:}")
    done
}

stage() {
    local started=$SECONDS
    compose "$@"
    "${line[@]}"
    printf '  %s: %d s\n' "$3" $((SECONDS - started))
}

stage synth_data/speak.py speak speech
stage tokenizers/train_vq_whisper.py vq-whisper units speech.main:speech
stage tokenizers/fit_text.py text text speech
stage tokenizers/encode.py encode store speech units text
stage tokenizers/encode_text.py encode-text texts vocabulary:store corpus:speech
# Two models of this size beside each other, each on half of the cores, are sooner done than one after the other.
threads=$(((${OMP_NUM_THREADS:-$(nproc)} + 1) / 2))
compose training/pretrain.py pretrain-apart lm-apart stores.main:store stores.texts:texts
OMP_NUM_THREADS=$threads "${line[@]}" >>"$run/lm-apart.log" 2>&1 &
apart=$!
trap 'kill "$apart" 2>/dev/null; wait "$apart" 2>/dev/null || true' EXIT
OMP_NUM_THREADS=$threads stage training/pretrain.py pretrain lm stores.main:store stores.texts:texts
wait "$apart" || { status=$?; cat "$run/lm-apart.log" >&2; exit "$status"; }
trap - EXIT
echo "  lm-apart: beside it (lm-apart.log)"
stage training/train_voice.py voice voice speech units store
stage training/export_hf.py export model run:lm speech_tokenizer:units voice
stage training/export_hf.py export model-apart run:lm-apart speech_tokenizer:units voice
stage evals/run.py run results model apart:model-apart store
stage evals/generate.py generate samples model speech
stage evals/report.py report report speech units text store lm lm_apart:lm-apart voice model model_apart:model-apart results samples
cp "$run/report/report.html" "$run/report.html"
echo "report: $run/report.html"
