"""The embedded encoder's tokenizer: WordPiece, trained on text of the demo's languages.

Knows neither where the text comes from nor any model.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer, the same for the same texts.

    The trainer numbers the pieces of single characters in the order of a hash table with random
    keys, and breaks ties by these numbers. So they are given to it in a fixed order, as special
    tokens; in the tokenizer that is returned they are ordinary pieces.
    """
    texts = list(texts)
    characters = sorted(set("".join(texts)) - {" "})
    single = [*characters, *(f"##{character}" for character in characters)]
    learner = _backend(models.WordPiece(unk_token="[UNK]"))
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary, special_tokens=[*SPECIAL, *single], show_progress=False
        ),
    )
    pieces = learner.get_vocab()
    backend = _backend(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", pieces["[SEP]"]), ("[CLS]", pieces["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _backend(model: models.Model) -> Tokenizer:
    backend = Tokenizer(model)
    # Accents stay: in some scripts they are vowels.
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend
