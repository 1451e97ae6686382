"""From prompts to rows; each distinct prompt is looked up or encoded once."""

import hashlib

import numpy as np

from .._warnings import warn_user
from ..exceptions import TruncatedPromptWarning


def embed_prompts(encoder, cache, prompts):
    """Embed prompts, in order.

    Parameters
    ----------
    encoder : Encoder
    cache : CachedRows
        Rows of the text encoder.
    prompts : list of str

    Returns
    -------
    rows : ndarray of shape (n_prompts, n_features) and dtype float32
    """
    digests = [hashlib.sha256(b"text " + prompt.encode()).digest() for prompt in prompts]
    distinct = dict(zip(digests, prompts, strict=True))
    rows = cache.get(distinct)
    missing = [digest for digest in distinct if digest not in rows]
    truncated = []
    for start in range(0, len(missing), encoder.batch_size):
        batch = missing[start : start + encoder.batch_size]
        new, is_cut = encoder.encode_prompts([distinct[digest] for digest in batch])
        rows.update(zip(batch, new, strict=True))
        # Prompts that were cut are not stored, so that the next call warns again.
        whole = [i for i in range(len(batch)) if not is_cut[i]]
        cache.put([batch[i] for i in whole], new[whole])
        truncated += [distinct[digest] for digest, cut in zip(batch, is_cut, strict=True) if cut]
    if truncated:
        context = encoder.text_model.tokenizer.context_length
        warn_user(
            f"{len(truncated)} of {len(distinct)} prompts are longer than the {context} tokens "
            f"that the text encoder reads and were cut; the first begins with "
            f"{truncated[0][:60]!r}.",
            TruncatedPromptWarning,
        )
    return np.stack([rows[digest] for digest in digests])
