"""The vocabulary as a Hugging Face fast tokenizer, so that an exported model needs no code of ours."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from spiritlm.errors import InputError
from spiritlm.run.files import write_json
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary

SAMPLES = ("the", "It rained.", "One\nTwo\n\nthree", "a  b", "T \n", "\ufb01ne Ⅳ №", "don't, 1,000")
"""Where sentencepiece models differ from each other."""


def save_huggingface_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer.from_pretrained(folder)` reads.

    Ids equal `Vocabulary`'s for text, markers and units alike; `<s>` is put before everything, as Spirit LM does. Over
    a fast tokenizer that puts no space before the text, a word has its ids only after a space. Raises `InputError` for
    a sentencepiece model that a fast tokenizer cannot stand in for (its own normalization rules, no space before text).
    """
    text = vocabulary.text
    tokenizer = _from_pieces(text) if isinstance(text, SentencePieceText) else Tokenizer.from_str(text.data.decode())
    bos, eos = vocabulary.token(vocabulary.bos), vocabulary.token(vocabulary.eos)
    known = set(tokenizer.get_vocab(with_added_tokens=True).values())
    new = [id for id in range(vocabulary.size) if id not in known]
    if not isinstance(text, SentencePieceText):
        tokenizer = _with_ids(tokenizer, {vocabulary.token(id): id for id in new})
    control = (vocabulary.bos, vocabulary.eos)
    tokenizer.add_tokens([AddedToken(vocabulary.token(id), normalized=False, special=id in control) for id in new])
    tokenizer.add_special_tokens([AddedToken(bos, special=True), AddedToken(eos, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary.bos)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    if isinstance(text, SentencePieceText):
        config["unk_token"] = vocabulary.token(0)
    write_json(folder / "tokenizer_config.json", config)


def _with_ids(tokenizer: Tokenizer, ids: dict[str, int]) -> Tokenizer:
    """The tokenizer with further entries in its model: those that are only added are numbered by their count."""
    data = json.loads(tokenizer.to_str())
    if isinstance(data["model"]["vocab"], dict):
        data["model"]["vocab"] |= ids
    return Tokenizer.from_str(json.dumps(data))


def _from_pieces(text: SentencePieceText) -> Tokenizer:
    """A sentencepiece model, unigram or BPE, without sentencepiece."""
    scores = {text.token(id): text.model.get_score(id) for id in range(text.size)}
    if all(score.is_integer() for score in scores.values()):  # ranks of merges; unigram models have log probabilities
        from transformers.convert_slow_tokenizer import generate_merges

        ids = {piece: id for id, piece in enumerate(scores)}
        merges = generate_merges(ids, scores)
        tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=text.token(0), fuse_unk=True, byte_fallback=True))
    else:
        tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0, byte_fallback=True))
    one_space = text.model.encode("a  b") == text.model.encode("a b")
    if one_space:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(" +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=one_space)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    for sample in SAMPLES:
        expected, found = text.encode_document(sample), tokenizer.encode(sample, add_special_tokens=False).ids
        if found != expected:
            raise InputError(
                f"text tokenizer: {sample!r} has ids {expected}, as a Hugging Face tokenizer {found}: a sentencepiece "
                "model without its own normalization and with a space before the text is expected"
            )
    return tokenizer
