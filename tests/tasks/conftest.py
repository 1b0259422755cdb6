"""Small tokenizers of the three families, and the real data where it is at hand."""

import string
from pathlib import Path

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

REAL = Path(__file__).parents[3] / "shared" / "data"

CORPUS = [
    "The quick brown fox jumps over the lazy dog .",
    "Der schnelle braune Fuchs springt über den faulen Hund .",
    "El veloz zorro marrón salta sobre el perro perezoso .",
    "तेज भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है .",
    "敏捷的棕色狐狸跳过了懒狗。",
]


@pytest.fixture(scope="session")
def letters():
    """WordPiece, cased, with BERT's layout: every letter is a piece.

    [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, a..z from 4, ##a..##z from 30, then `.` 56 and `?` 57.
    """
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase]
    names += [f"##{letter}" for letter in string.ascii_lowercase] + [".", "?"]
    model = models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def unigram():
    """SentencePiece-like, with XLM-R's layout `<s> A </s></s> B </s>` and no type ids."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>"),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return _wrapped(tokenizer)


@pytest.fixture(scope="session")
def bytelevel():
    """Byte-level BPE as RoBERTa's and ModernBERT's: a blank before a word changes its pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    return _wrapped(tokenizer)


@pytest.fixture(params=["letters", "unigram", "bytelevel"])
def any_tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def real_xtreme():
    """The folder of real data in XTREME's layout."""
    if not (REAL / "xtreme").is_dir():
        pytest.skip("no real data: ../shared/data/xtreme is not there")
    return REAL / "xtreme"


@pytest.fixture(scope="session")
def mbert():
    """The tokenizer of bert-base-multilingual-cased."""
    vocabulary = REAL / "bert-base-multilingual-cased" / "vocab.txt"
    if not vocabulary.is_file():
        pytest.skip("no mBERT vocabulary: ../shared/data is not there")
    return BertTokenizerFast(str(vocabulary), do_lower_case=False)


def _wrapped(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
