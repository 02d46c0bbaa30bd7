"""The command `spiritlm`: what one does with a trained, exported model, and a look into a store."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiritlm.errors import InputError
from spiritlm.run.program import guarded

DEFAULT_MODEL = Path("runs/quickstart/model")


def main(argv: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    sys.exit(guarded(lambda: options.run(options), options.debug))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spiritlm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="write and speak what the model says next",
        description="Continue a prompt of text and speech. Pieces are used in the order they are given.",
    )
    generate.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="exported folder (default: %(default)s)")
    generate.add_argument("--text", action=_Piece, metavar="TEXT", help="a written piece of the prompt")
    generate.add_argument("--speech", action=_Piece, metavar="WAV", help="a spoken piece of the prompt")
    generate.add_argument("--output", choices=("text", "speech", "any"), default="any", help="what to answer in")
    generate.add_argument(
        "--out", type=Path, default=Path("continuation"), help="writes OUT.txt, and OUT.wav where the model speaks"
    )
    _add_voice(generate)
    generate.add_argument("--max-new-tokens", type=int, default=200)
    generate.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token")
    generate.add_argument("--top-p", type=float, default=0.95)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--debug", action="store_true", help="show the trace of an error")
    generate.set_defaults(run=_generate, prompt=())
    speak = commands.add_parser(
        "speak",
        help="speak units that are written down",
        description="Units of TOKENS (12, [Hu12] or <|audio_12|>, one behind the other; with pitch and style "
        "[St3][Pi7][Hu12]) become speech. A decoder that predicts how long a unit lasts hears each run of equal units "
        "once.",
    )
    speak.add_argument("tokens", type=Path, metavar="TOKENS", help="text file of units")
    speak.add_argument("-o", "--out", type=Path, required=True, metavar="WAV", help="where to write the sound")
    speak.add_argument(
        "--voice",
        type=Path,
        default=DEFAULT_MODEL / "voice",
        metavar="FOLDER",
        help="speech decoder: model/ of its training, voice/ of an exported model, or a published folder "
        "(default: %(default)s)",
    )
    _add_voice(speak)
    speak.add_argument("--stream", action="store_true", help="speak block by block, and say how soon and how fast")
    speak.add_argument("--block", type=int, default=10, metavar="N", help="units that arrive at a time (%(default)s)")
    speak.add_argument("--debug", action="store_true", help="show the trace of an error")
    speak.set_defaults(run=_speak)
    inspect = commands.add_parser(
        "inspect",
        help="what a store of tokens holds, and whether it is whole",
        description="Print the counts of a store, show a document as tokens, and verify every file.",
    )
    inspect.add_argument("path", type=Path, metavar="STORE", help="a store, or one split of it")
    inspect.add_argument("--document", type=int, default=0, metavar="N", help="which document to show")
    inspect.add_argument("--tokens", type=int, default=60, help="show at most so many of its tokens")
    inspect.add_argument("--debug", action="store_true", help="show the trace of an error")
    inspect.set_defaults(run=_inspect)
    return parser


def _add_voice(command: argparse.ArgumentParser) -> None:
    """Who speaks and how."""
    command.add_argument("--speaker", help="voice to speak with (default: the decoder's own)")
    command.add_argument(
        "--style", help="manner to speak in, of all that is said (default: the units', or the decoder's)"
    )
    command.add_argument(
        "--pitch-shift",
        type=float,
        default=0.0,
        metavar="N",
        help="semitones up or down; needs pitch units (%(default)g)",
    )


class _Piece(argparse.Action):
    """Collects --text and --speech into one ordered prompt of (kind, value)."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.prompt = (*namespace.prompt, (self.dest, values))


def _generate(options: argparse.Namespace) -> None:
    out = options.out.with_suffix("") if options.out.suffix in (".txt", ".wav") else options.out
    folder = out.resolve().parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise InputError(f"--out {options.out}: {folder} is not a folder that can be written") from None
    if options.max_new_tokens < 1 or not options.temperature >= 0 or not 0 < options.top_p <= 1:
        raise InputError("expected --max-new-tokens >= 1, --temperature >= 0 and 0 < --top-p <= 1")
    if not 0 <= options.seed < 2**63:
        raise InputError(f"--seed {options.seed}: expected 0 to 2**63 - 1")

    import numpy as np

    from spiritlm.audio.files import read_audio, write_wav
    from spiritlm.inference.model import Sampling, Speech, SpeechTextLM
    from spiritlm.inference.transcript import transcript
    from spiritlm.run.files import write_text
    from spiritlm.synthesis.protocol import check_voice
    from spiritlm.synthesis.unit_decoder import shift_pitch

    model = SpeechTextLM.from_pretrained(options.model)
    if model.voice is None:
        if options.output == "speech" or options.speaker or options.style or options.pitch_shift:
            raise InputError(f"{options.model}: has no voice; ask for --output text, or any")
        print("the model has no voice: speech it answers with stays units")
    else:
        check_voice(model.voice, options.speaker, options.style)
        shift_pitch(model.voice, None, options.pitch_shift)
    rate = model.ears.sample_rate
    prompt = [
        Speech(read_audio(Path(value), rate), rate) if kind == "speech" else value for kind, value in options.prompt
    ]
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed)
    segments = model.generate(prompt, options.output, sampling)
    text = transcript(segments)
    write_text(out.with_name(out.name + ".txt"), text + "\n")
    print(text)
    wave = np.zeros(0, np.float32)
    if model.voice is not None:
        wave = model.speak(segments, options.speaker, options.style, options.pitch_shift)
    wav = out.with_name(out.name + ".wav")
    wav.unlink(missing_ok=True)
    if model.voice is not None and len(wave):
        write_wav(wav, wave, model.voice.sample_rate)
        print(f"spoken: {wav} ({len(wave) / model.voice.sample_rate:.1f} s)")


def _speak(options: argparse.Namespace) -> None:
    if options.block < 1:
        raise InputError(f"--block {options.block}: expected at least 1")
    if options.out.resolve() == options.tokens.resolve():
        raise InputError(f"--out {options.out}: would replace the units")
    if options.out.is_dir() or not options.out.resolve().parent.is_dir():
        raise InputError(f"--out {options.out}: expected a file in a folder that is there")

    from spiritlm.audio.files import write_wav
    from spiritlm.synthesis.loading import load_speech_decoder
    from spiritlm.synthesis.protocol import as_given
    from spiritlm.synthesis.timing import timed_stream
    from spiritlm.synthesis.unit_decoder import shift_pitch
    from spiritlm.tokens.units_text import read_units

    try:
        text = options.tokens.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "not a text file"
        raise InputError(f"{options.tokens}: {reason}") from None
    units, prosody = read_units(text, str(options.tokens))
    decoder = load_speech_decoder(options.voice)
    units, _, prosody = as_given(decoder, units, prosody)
    prosody = shift_pitch(decoder, prosody, options.pitch_shift)
    if options.stream:
        spoken = timed_stream(decoder, units, options.block, options.speaker, options.style, prosody)
        wave, rate = spoken.wave, decoder.sample_rate
        print(f"first sound after {1000 * spoken.first:.0f} ms of work, real-time factor {spoken.factor(rate):.3f}")
    else:
        wave = decoder.decode(units, options.speaker, options.style, prosody)
    write_wav(options.out, wave, decoder.sample_rate)
    print(f"spoken: {options.out} ({len(wave) / decoder.sample_rate:.1f} s)")


def _inspect(options: argparse.Namespace) -> None:
    from spiritlm.corpus.inspect import describe_split, describe_vocabulary, readable, splits_in
    from spiritlm.corpus.store import DocumentStore

    folder, splits = splits_in(options.path)
    stores = {split: DocumentStore(folder, split) for split in splits}
    longest = max(stores.values(), key=len)
    if len(longest) and not 0 <= options.document < len(longest):
        raise InputError(f"--document {options.document}: expected 0 to {len(longest) - 1}")
    print(describe_vocabulary(next(iter(stores.values())).vocabulary))
    for split, store in stores.items():
        store.check()
        print(f"\n{split}: {describe_split(store)}")
        if options.document < len(store):
            print("\n".join(readable(store, options.document, options.tokens)))
        print("whole: every sha256 as in the manifest, every word and unit within its document")


if __name__ == "__main__":
    main()
