#!/usr/bin/env bash
# The whole path at one size: text -> recordings -> units -> language model -> speech -> figures.
#   launch/path.sh SIZE [RUN]     SIZE: quickstart, demo or tiny; RUN: folder to write (default runs/SIZE)
# Every stage skips what it has done before, so a run that was stopped is continued by the same command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
size=${1:?usage: launch/path.sh SIZE [RUN]}
run=${2:-runs/$size}
python=${PYTHON:-.venv/bin/python}

# stage PROGRAM RECIPE OUT [INPUT...]: an input is FIELD or FIELD:FOLDER, a folder of this run
stage() {
    local program=$1 recipe=$2 out=$3 started=$SECONDS input
    shift 3
    local overrides=("out=$run/$out")
    for input in "$@"; do
        overrides+=("${input%%:*}=$run/${input#*:}")
    done
    "$python" "$program" "$(dirname "$program")/recipes/$recipe-$size.toml" "${overrides[@]}"
    printf '  %s: %d s\n' "$out" $((SECONDS - started))
}

stage synth_data/speak.py speak speech
stage tokenizers/fit_units.py units units speech
stage tokenizers/fit_text.py text text speech
stage tokenizers/encode.py encode store speech units text
stage tokenizers/encode_text.py encode-text texts vocabulary:store corpus:speech
stage training/pretrain.py pretrain lm stores.main:store stores.texts:texts
stage training/train_voice.py voice voice speech units store
stage training/export_hf.py export model run:lm speech_tokenizer:units voice
stage evals/run.py run results model store
stage evals/generate.py generate samples model speech
stage evals/report.py report report speech units text store lm voice model results samples
cp "$run/report/report.html" "$run/report.html"
echo "report: $run/report.html"
