#!/usr/bin/env bash
# The whole path at one size: text -> recordings -> units -> language model -> speech -> figures.
#   launch/path.sh SIZE [RUN [--expressive]]     SIZE: quickstart, demo or tiny; RUN: folder (default runs/SIZE)
# --expressive: then the same model once more, over units with pitch and style, beside the first.
# Every stage skips what it has done before, so a run that was stopped is continued by the same command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
size=${1:?usage: launch/path.sh SIZE [RUN]}
run=${2:-runs/$size}
expressive=${3:-}
[ -z "$expressive" ] || [ "$expressive" = --expressive ] || { echo "path.sh: $expressive: expected --expressive" >&2; exit 2; }
case $run in -*) echo "path.sh: $run: expected a folder before it" >&2; exit 2 ;; esac
python=${PYTHON:-.venv/bin/python}
# bf16 of the recipes in training/ where the machine has it
bf16='from spiritlm.run.device import computes_bf16, training_device as device; raise SystemExit(not computes_bf16(device()))'
precision=()
"$python" -c "$bf16" || precision=(training.precision=fp32)

# compose PROGRAM RECIPE OUT [INPUT...] sets `line`; an input is FIELD or FIELD:FOLDER, a folder of this run
compose() {
    local program=$1 recipe=$2 input
    line=("$python" "$program" "$(dirname "$program")/recipes/$recipe-$size.toml" "out=$run/$3")
    shift 3
    for input in "$@"; do
        line+=("${input%%:*}=$run/${input#*:}")
    done
    case $program in training/pretrain.py | training/train_voice.py | training/train_flow.py) line+=(${precision[@]+"${precision[@]}"}) ;; esac
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
if [ "$size" = demo ]; then # time for a decoder that streams and sounds like its speakers
    stage training/train_vocoder.py vocoder vocoder speech
    stage training/train_flow.py flow voice speech units store vocoder
else
    stage training/train_voice.py voice voice speech units store
fi
stage training/export_hf.py export model run:lm speech_tokenizer:units voice
stage training/export_hf.py export model-apart run:lm-apart speech_tokenizer:units voice
stage evals/make_suites.py make-suites suites speech
stage evals/train_classifiers.py train-classifiers classifiers speech
stage evals/run.py run results model apart:model-apart store data:suites grammar:speech classifiers
stage evals/generate.py generate samples model speech grammar:speech classifiers
report="report"
reported=(speech units text store suites classifiers lm lm_apart:lm-apart voice model model_apart:model-apart results samples)
if [ -n "$expressive" ]; then
    stage tokenizers/train_pitch.py pitch pitch speech
    stage tokenizers/train_style.py style style speech
    stage tokenizers/join_streams.py join-streams streams units pitch style
    stage tokenizers/encode.py encode store-expressive speech units:streams text
    stage tokenizers/encode_text.py encode-text texts-expressive vocabulary:store-expressive corpus:speech
    stage training/pretrain.py pretrain lm-expressive stores.main:store-expressive stores.texts:texts-expressive
    voiced=()
    if [ "$size" = demo ]; then
        stage training/train_vocoder.py hifigan-expressive voice-expressive speech units:streams store:store-expressive
        voiced=(voice:voice-expressive)
    fi
    stage training/export_hf.py export-expressive model-expressive run:lm-expressive speech_tokenizer:streams ${voiced[@]+"${voiced[@]}"}
    stage evals/run.py run-expressive results-expressive model:model-expressive store:store-expressive moods:speech data:suites grammar:speech classifiers
    report="report-expressive"
    reported+=(lm_expressive:lm-expressive results_expressive:results-expressive)
fi
stage evals/report.py report "$report" "${reported[@]}"
cp "$run/$report/report.html" "$run/report.html"
echo "report: $run/report.html"
