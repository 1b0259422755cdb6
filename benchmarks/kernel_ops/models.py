"""The lists of parameters that the operations are measured over. Knows no operation."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

Shapes = list[torch.Size]

NAMES = ("mbert", "xlmr-large")


def model_shapes(name: str) -> Shapes:
    """Shapes of a model's parameters, from its public configuration: no weights are needed."""
    with torch.device("meta"):
        if name == "mbert":  # bert-base-multilingual-cased
            model: torch.nn.Module = BertModel(BertConfig(vocab_size=119547))
        else:
            assert name == "xlmr-large", name
            config = XLMRobertaConfig(
                vocab_size=250002,
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
                max_position_embeddings=514,
                type_vocab_size=1,
            )
            model = XLMRobertaModel(config)
    return [parameter.shape for parameter in model.parameters()]


def synthetic_shapes(num_parameters: int) -> Shapes:
    """Half of them in one tensor, as embeddings are, the rest in 200 equal ones and one more."""
    embedding = num_parameters // 2
    each, left = divmod(num_parameters - embedding, 200)
    sizes = [embedding, *[each] * 200, left]
    return [torch.Size([size]) for size in sizes if size]


def split(flat: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views of a flat vector with the shapes of the parameters."""
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
