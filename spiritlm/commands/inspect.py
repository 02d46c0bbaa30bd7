"""`spiritlm inspect`: what a store of tokens holds, and whether it is whole."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spiritlm.errors import InputError


def add(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="what a store of tokens holds, and whether it is whole",
        description="Print the counts of a store, show a document as tokens, and verify every file.",
    )
    parser.add_argument("path", type=Path, metavar="STORE", help="a store, or one split of it")
    parser.add_argument("--document", type=int, default=0, metavar="N", help="which document to show")
    parser.add_argument("--tokens", type=int, default=60, help="show at most so many of its tokens")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
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
