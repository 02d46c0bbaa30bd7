"""The vocabulary as a Hugging Face fast tokenizer, so that an exported model needs no code of ours."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from spiritlm.run.files import write_json
from spiritlm.tokens.vocabulary import Vocabulary


def save_huggingface_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which `AutoTokenizer.from_pretrained(folder)` reads.

    Ids equal `Vocabulary`'s for text, markers and units alike; `<s>` is put before everything, as Spirit LM does.
    """
    pieces = [(vocabulary.token(id), vocabulary.piece_score(id)) for id in range(vocabulary.text_size)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=True, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bos, eos = vocabulary.token(vocabulary.bos), vocabulary.token(vocabulary.eos)
    tokenizer.add_special_tokens([AddedToken(bos, special=True), AddedToken(eos, special=True)])
    tokenizer.add_tokens(
        [AddedToken(vocabulary.token(id), normalized=False) for id in range(vocabulary.text_size, vocabulary.size)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary.bos)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": eos,
        "unk_token": vocabulary.token(0),
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", config)
