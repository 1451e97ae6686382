"""Which model made embeddings: kept with what was learned from them, and compared later."""

import hashlib
import json
from dataclasses import dataclass

from .._embeddings import are_different
from ..exceptions import ModelError
from ._checkpoint import is_in_hub_cache, model_facts, weights_path

N_DIGITS = 12  # of a fingerprint in messages


@dataclass(frozen=True)
class ModelIdentity:
    """A CLIP model, by its name and by its content.

    Neither the number format nor the device counts: "auto" chooses them on each machine.

    Attributes
    ----------
    name : str
        For messages only, since a model may move to another folder.
    fingerprints : tuple of str
        Digests of architecture, weights and preprocessing. A model of the Hugging Face Hub has one
        by the commit of its repository and, once its weights are downloaded, one by these.
    """

    name: str
    fingerprints: tuple[str, ...]

    def is_same(self, other):
        """Whether two identities are of one model, which means that they share a fingerprint."""
        return other is not None and not set(self.fingerprints).isdisjoint(other.fingerprints)

    def check(self, checkpoint, name):
        """Check that a checkpoint is of this model.

        Parameters
        ----------
        checkpoint : Checkpoint
            A model of the Hub is downloaded if only its weights can tell.
        name : str
            For messages.

        Raises
        ------
        ModelError
            If it is another model, or has other weights or another preprocessing.
        """
        found = identify(checkpoint, name)
        if checkpoint.scheme == "hf-hub" and not self.is_same(found):
            weights_path(checkpoint)
            found = identify(checkpoint, name)
        if not self.is_same(found):
            raise ModelError(
                f"This was fitted with the CLIP {self}, but the CLIP in use is {found}, with other "
                "weights or another preprocessing; use the model of the fit, or fit again."
            )

    def facts(self):
        """The identity as a dict for JSON."""
        return {"name": self.name, "fingerprints": list(self.fingerprints)}

    @classmethod
    def from_facts(cls, facts):
        """The identity from a dict of :meth:`facts`, which a file may have damaged."""
        name, fingerprints = facts["name"], facts["fingerprints"]
        texts = [name, *fingerprints] if isinstance(fingerprints, list) else []
        if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
            raise ValueError("the name and the fingerprints of a model must be strings")
        return cls(name, tuple(fingerprints))

    def __str__(self):
        return f"{self.name!r} (fingerprint {self.fingerprints[-1][:N_DIGITS]})"


def check_embeds_with(model, classifier):
    """Raise if the model of a pipeline is known to be another one than that of the fit's rows."""
    if are_different(model, classifier._identity):
        raise ModelError(
            "The classifier of this pipeline was fitted on embeddings of the CLIP "
            f"{classifier._identity}, but the pipeline embeds images with the CLIP {model}; use "
            "one model for both."
        )


def identify(checkpoint, name):
    """Identify a model, without loading it.

    Parameters
    ----------
    checkpoint : Checkpoint
    name : str
        For messages.

    Returns
    -------
    identity : ModelIdentity or None
        None for a model of the Hub of which nothing has been downloaded.
    """
    if checkpoint.scheme == "hf-hub" and not is_in_hub_cache(checkpoint):
        return None
    digests = [
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        for facts in model_facts(checkpoint)
    ]
    return ModelIdentity(name, tuple(digests))
