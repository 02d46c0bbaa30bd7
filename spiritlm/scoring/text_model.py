"""A causal language model of text, as a judge of how likely texts are: any of transformers, or one of this project.

In: a local folder with weights as safetensors. Out: of each text its log probability and how many tokens that is of.
A text begins with the tokenizer's token of beginning, which is read and not scored; where it has none, the first token
of the text stands for it. Where a text ends is not scored. A folder exported by this project is read as in training,
`<s>`, the marker of text, the text. All is computed in float32, so that a figure does not move with the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from spiritlm.errors import InputError
from spiritlm.inference.model import load_language_model
from spiritlm.run.device import training_device
from spiritlm.run.files import read_json, sha256_files
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.scoring.loglikelihood import TokenScorer
from spiritlm.scoring.models import ExportedModel
from spiritlm.scoring.protocol import Request, Score
from spiritlm.scoring.rows import TokenRequest
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary

DIGESTED = ("*.safetensors", CONFIG_FILE, "tokenizer*", "vocab*", "merges.txt")
"""Files that decide how likely a text is."""

Tokens = Callable[[str], TokenRequest]


class CausalTextModel:
    """See `scoring/judges.py: TextModel`."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` where `folder` holds no whole causal language model with its tokenizer."""
        if not (folder / CONFIG_FILE).is_file():
            where = f"it has no {CONFIG_FILE}" if folder.is_dir() else "it does not exist"
            raise InputError(f"{folder}: expected the folder of a language model: {where}")
        files = [path for pattern in DIGESTED for path in folder.glob(pattern) if path.is_file()]
        kind = read_json(folder / CONFIG_FILE).get("model_type", "model")
        self.name = f"{kind} {sha256_files(files, folder)[:12]}"
        """The kind of model and a digest of its weights and tokenizer."""
        self.folder = folder
        self._tokens, self._scorer = _exported(folder) if (folder / MANIFEST).is_file() else _stock(folder)

    def __call__(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Of each text: its natural log probability and the tokens that it is of; none for a text without words.

        Raises `InputError` where a text is longer than the context of the model.
        """
        made = {number: self._tokens(text) for number, text in enumerate(texts) if text.strip()}
        asked = {number: tokens for number, tokens in made.items() if len(tokens.continuation)}
        context = self._scorer.model.context
        for number, tokens in asked.items():
            if context is not None and len(tokens.ids) > context:
                raise InputError(
                    f"{self.folder}: text {texts[number][:40]!r}: {len(tokens.ids)} tokens, "
                    f"at most the {context} of the model's context fit"
                )
        scores = dict(zip(asked, self._scorer.score(list(asked.values())), strict=True))
        found = (scores.get(number, Score(0.0, 0)) for number in range(len(texts)))
        return [(score.total, score.tokens) for score in found]


def _exported(folder: Path) -> tuple[Tokens, TokenScorer]:
    """Of a folder that `training/export_hf.py` wrote, without its ears and voice."""
    model = ExportedModel(load_language_model(folder).float(), Vocabulary.load(folder), None, {})
    return lambda text: model.tokens(Request((), (text,))), model.scorer


def _stock(folder: Path) -> tuple[Tokens, TokenScorer]:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # seconds to import
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: expected a whole causal language model and its tokenizer: {reason}") from None
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(f"{folder}: its weights lack {missing[0]!r}, expected those of a causal language model")
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def tokens(text: str) -> TokenRequest:
        ids = begin + tokenizer.encode(text, add_special_tokens=False)
        return TokenRequest(np.array(ids[:1], np.int64), np.array(ids[1:], np.int64))

    return tokens, TokenScorer(model.to(training_device()).eval())
