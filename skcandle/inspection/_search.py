"""Search for images by a text."""

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize

from ._page import render
from ._thumbnails import image_name, thumbnails

THUMBNAIL = 128


@dataclass(frozen=True)
class SearchResult:
    """Images found by :meth:`ImageReport.search`, the most similar first.

    A notebook displays the images; ``pandas.DataFrame(result.rows())`` makes a table of them.

    Parameters
    ----------
    text : str
        The text of the search.
    positions : ndarray of shape (n_found,) of int
        Positions of the images in the report.
    similarity : ndarray of shape (n_found,)
        Cosine similarity of image and text.
    images : list of length n_found
        The images, as they were passed to the report.
    """

    text: str
    positions: np.ndarray
    similarity: np.ndarray
    images: list

    def rows(self) -> list[dict]:
        """Return a table of the images.

        Returns
        -------
        rows : list of dict
            One per image, with ``position``, ``name`` and ``similarity``.
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
    """Find the images whose embeddings are most similar to that of a text.

    Parameters
    ----------
    text : str
    encoder : object
        Any object with ``encode_text``.
    X : ndarray of shape (n_readable, n_features)
        Unit rows.
    positions : ndarray of shape (n_readable,)
        Their positions in `images`.
    images : list
    n_images : int

    Returns
    -------
    result : SearchResult
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text must be words to search for, such as 'a red car', got {text!r}.")
    query = normalize(np.asarray(encoder.encode_text([text])))[0]
    similarity = X @ query.astype(X.dtype)
    best = np.argsort(-similarity, kind="stable")[:n_images]
    chosen = positions[best]
    return SearchResult(text, chosen, similarity[best], [images[i] for i in chosen])
