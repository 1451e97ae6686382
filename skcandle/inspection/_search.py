"""Images that are most similar to a text."""

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from ._page import render
from ._thumbnails import image_name, thumbnails

THUMBNAIL = 128


@dataclass(frozen=True)
class SearchResult:
    """Images found by a text, the most similar first.

    In a notebook it shows the images; ``pandas.DataFrame(result.rows())`` makes a table of it.

    Parameters
    ----------
    text : str
        What was searched for.
    positions : ndarray of shape (n_found,) of int
        Positions among the images of the report.
    similarity : ndarray of shape (n_found,)
        Cosine of image and text.
    images : list of length n_found
        The images as they were given.
    """

    text: str
    positions: np.ndarray
    similarity: np.ndarray
    images: list

    def rows(self) -> list[dict]:
        """Table of the images.

        Returns
        -------
        rows : list of dict
            With ``position``, ``name`` and ``similarity``.
        """
        return [
            {"position": int(i), "name": image_name(image, i), "similarity": float(similarity)}
            for i, image, similarity in zip(
                self.positions, self.images, self.similarity, strict=True
            )
        ]

    def __len__(self):
        return len(self.positions)

    def __repr__(self):
        lines = [f"{row['similarity']:.3f}  {row['name']}" for row in self.rows()]
        return "\n".join([f"{len(self)} images most similar to {self.text!r}", *lines])

    def _repr_html_(self):
        small = thumbnails(self.images, range(len(self.images)), THUMBNAIL)
        found = [row | {"src": small.get(i)} for i, row in enumerate(self.rows())]
        return render("search.html", text=self.text, found=found)


def search(text, encoder, X, positions, images, n_images):
    """The images whose embeddings are most similar to that of a text.

    Parameters
    ----------
    text : str
    encoder : object
        Has ``encode_text``.
    X : ndarray of shape (n_readable, n_features)
        Unit rows.
    positions : ndarray of shape (n_readable,)
        Their places in `images`.
    images : list
    n_images : int

    Returns
    -------
    result : SearchResult
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text is {text!r}; a search needs a few words, such as 'a red car'.")
    query = normalize(np.asarray(encoder.encode_text([text])))[0]
    similarity = X @ query.astype(X.dtype)
    best = np.argsort(-similarity, kind="stable")[:n_images]
    chosen = positions[best]
    return SearchResult(text, chosen, similarity[best], [images[i] for i in chosen])
