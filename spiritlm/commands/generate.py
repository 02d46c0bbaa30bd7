"""`spiritlm generate`: what a model says after a prompt of text and speech, in files and on a page with players."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from spiritlm.commands.options import add_model, add_voice, require_writable
from spiritlm.errors import InputError


def add(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "generate",
        help="write and speak what the model says next",
        description="Continue a prompt of text and speech. Pieces are used in the order they are given.",
        epilog='A line of --prompts: {"id": "a", "prompt": [{"text": "Tom went"}, {"speech": "lake.wav"}], '
        '"output": "speech"}; id and output may be left out, sounds are looked for beside the file.',
    )
    add_model(parser)
    parser.add_argument("--text", action=_Piece, metavar="TEXT", help="a written piece of the prompt")
    parser.add_argument("--speech", action=_Piece, metavar="WAV", help="a spoken piece of the prompt")
    parser.add_argument("--prompts", type=Path, metavar="FILE.jsonl", help="many prompts, one a line, in place of one")
    parser.add_argument(
        "--output", choices=("text", "speech", "any"), default="any", help="what to answer in (%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("continuation"),
        help="writes OUT.txt, OUT.wav where the model speaks, and OUT.html with players; with several answers "
        "OUT-1.txt, OUT-2.txt, ... (default: %(default)s)",
    )
    parser.add_argument("--n", type=int, default=1, metavar="N", help="answers to each prompt, with seeds SEED, SEED+1")
    parser.add_argument("--json", action="store_true", help="print every answer as one line of JSON, and nothing else")
    parser.add_argument("--stream", action="store_true", help="say a single answer while it is made, and how soon")
    add_voice(parser)
    parser.add_argument("--max-new-tokens", type=int, default=200, help="of an answer, at most (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (%(default)g)")
    parser.add_argument("--top-p", type=float, default=0.95, help="among the likeliest of this share (%(default)g)")
    parser.add_argument("--top-k", type=int, default=0, help="among so many of the likeliest; 0: all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="answers made together, at most (%(default)s)")
    parser.set_defaults(run=run, prompt=())
    return parser


class _Piece(argparse.Action):
    """Collects --text and --speech into one ordered prompt of (kind, value)."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.prompt = (*namespace.prompt, (self.dest, values))


def run(options: argparse.Namespace) -> None:
    options.out = options.out.with_suffix("") if options.out.suffix in (".txt", ".wav", ".html") else options.out
    require_writable(options.out)
    for name, value in (("--n", options.n), ("--batch-size", options.batch_size)):
        if value < 1:
            raise InputError(f"{name} {value}: expected at least 1")
    if options.prompts and options.prompt:
        raise InputError("--prompts: expected it, or --text and --speech, not both")
    if options.stream and (options.n > 1 or options.prompts or options.json):
        raise InputError("--stream: expected one prompt, one answer and no --json")
    with _stdout_kept(options.json):
        rows = list(_answers(options))
    if options.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))


@contextmanager
def _stdout_kept(kept: bool) -> Iterator[None]:
    """What is printed meanwhile goes to stderr."""
    with redirect_stdout(sys.stderr) if kept else nullcontext():
        yield


def _answers(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from spiritlm.inference import continuations
    from spiritlm.inference.model import SpeechTextLM
    from spiritlm.inference.request import Request, Sampling
    from spiritlm.inference.speaking import Manner

    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k, options.seed)
    manner = Manner(options.speaker, options.style, options.pitch_shift)
    model = SpeechTextLM.from_pretrained(options.model)
    if model.voice is not None:
        manner.check(model.voice)
    elif options.output == "speech" or (options.stream and options.output == "any") or manner != Manner():
        raise InputError(f"{options.model}: has no voice; ask for --output text, or any")
    else:
        print("the model has no voice: speech it answers with stays units")
    if options.prompts:
        asked = continuations.read_prompts(options.prompts, options.output, sampling)
    else:
        prompt = continuations.read_pieces(options.prompt)
        asked = [continuations.Asked("", options.prompt, Request(prompt, options.output, sampling))]
    asked = continuations.repeated(asked, options.n)
    continuations.require_free(asked, options.out)
    if options.stream:
        row = continuations.stream(model, asked[0], manner, options.out)
        if row["first_sound"] is not None:
            print(f"first sound after {1000 * row['first_sound']:.0f} ms, all after {row['took']:.1f} s")
        print(f"page: {continuations.save_page([row], options.out)}")
        yield row
        return
    rows = continuations.answer(model, asked, manner, options.out, options.batch_size)
    for row in rows:
        print(f"{row['name']}: {row['transcript']}" if row["name"] else row["transcript"])
        if row["wav"]:
            print(f"spoken: {row['wav']} ({row['seconds']:.1f} s)")
    print(f"page: {continuations.save_page(rows, options.out)}")
    yield from rows
