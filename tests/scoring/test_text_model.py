import math
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from spiritlm.errors import InputError
from spiritlm.scoring.judges import TextModel
from spiritlm.scoring.models import ExportedModel
from spiritlm.scoring.protocol import Request
from spiritlm.scoring.text_model import CausalTextModel
from spiritlm.tokens.vocabulary import Vocabulary

WORDS = [
    "<s>", "</s>", "?", "tom", "went", "to", "the", "lake", "with", "his", "mother", "he", "was", "sad", "and", "glad",
]  # fmt: skip
TEXTS = ["tom went to the lake", "he was sad", "glad", "", "tom tom tom tom tom and his mother", "he was sad"]
SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 24, "initializer_range": 0.2,
}  # fmt: skip


def write_model(folder: Path, bos: str | None, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token="</s>", unk_token="?").save_pretrained(
        folder
    )
    LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **SHAPE)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("judge"), "<s>")


def by_hand(folder: Path, ids: list[int], unscored: int) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
    with torch.inference_mode():
        steps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(steps[place - 1, ids[place]]) for place in range(unscored, len(ids)))


@pytest.mark.parametrize("bos", ["<s>", None])
def test_likelihoods_are_those_of_the_tokens(tmp_path: Path, bos: str | None) -> None:
    judge: TextModel = CausalTextModel(write_model(tmp_path, bos))
    for text, (total, tokens) in zip(TEXTS, judge(TEXTS), strict=True):
        ids = [WORDS.index(word) for word in text.split()]
        assert tokens == max(0, len(ids) - (bos is None))
        if tokens:
            assert total == pytest.approx(by_hand(tmp_path, [0] * (bos is not None) + ids, 1), abs=1e-4)
        else:
            assert total == 0


def test_neither_order_nor_company_moves_a_score(folder: Path) -> None:
    judge = CausalTextModel(folder)
    together = judge(TEXTS)
    for text, (total, tokens) in zip(TEXTS, together, strict=True):
        ((alone, same),) = judge([text])
        assert (alone, same) == (pytest.approx(total, abs=1e-5), tokens)
    assert judge([]) == []


def test_a_halved_model_is_read_in_float32(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "half")
    LlamaForCausalLM.from_pretrained(folder).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    (total, _), *_ = CausalTextModel(tmp_path / "half")(TEXTS[:1])
    ids = [WORDS.index(word) for word in f"<s> {TEXTS[0]}".split()]
    assert total == pytest.approx(by_hand(tmp_path / "half", ids, 1), abs=1e-5)


def test_the_name_tells_weights_and_tokenizer_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a model")
    name = CausalTextModel(folder).name
    assert name.startswith("llama ") and CausalTextModel(tmp_path / "copy").name == name
    assert CausalTextModel(write_model(tmp_path / "other", "<s>", seed=1)).name != name
    assert CausalTextModel(write_model(tmp_path / "beginless", None)).name != name


def test_an_exported_model_reads_text_as_in_training(vocabulary: Vocabulary, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = SHAPE | {"max_position_embeddings": 64}
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary.padded_size, **shape)).save_pretrained(tmp_path)
    vocabulary.save(tmp_path)
    judge, text = CausalTextModel(tmp_path), "Tom went to the lake."
    (scored,) = ExportedModel.from_pretrained(tmp_path).loglikelihood([Request((), (text,))])
    (total, tokens), nothing = judge([text, " "])
    assert (total, tokens) == (pytest.approx(scored.total, abs=1e-4), len(vocabulary.encode_text(text)))
    assert nothing == (0.0, 0) and math.isfinite(total) and judge.name.startswith("llama ")


def test_a_text_beyond_the_context_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r"text 'tom tom.*: 31 tokens, at most the 24 of the model's context fit$"):
        CausalTextModel(folder)(["he was sad", "tom " * 30])


def test_folders_that_hold_no_whole_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: expected the folder of a language model: it does not exist"):
        CausalTextModel(tmp_path / "none")
    with pytest.raises(InputError, match=r"expected the folder of a language model: it has no config\.json"):
        CausalTextModel(tmp_path)

    def spoilt(name: str) -> Path:
        shutil.copytree(folder, tmp_path / name)
        return tmp_path / name

    cut = spoilt("cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    speechless = spoilt("speechless")
    for path in speechless.glob("tokenizer*"):
        path.unlink()
    pickled = spoilt("pickled")
    torch.save(LlamaForCausalLM.from_pretrained(folder).state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    strange = spoilt("strange")
    (strange / "config.json").write_text('{"model_type": "nothing known"}')
    for path in (cut.parent, speechless, pickled, strange):
        with pytest.raises(InputError, match="expected a whole causal language model and its tokenizer") as error:
            CausalTextModel(path)
        assert "\n" not in str(error.value)


def test_weights_of_another_kind_of_model_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bert")
    shape = {name: size for name, size in SHAPE.items() if name != "initializer_range"}
    BertModel(BertConfig(vocab_size=len(WORDS), is_decoder=True, **shape)).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match=r"its weights lack .*, expected those of a causal language model"):
        CausalTextModel(tmp_path / "bert")
