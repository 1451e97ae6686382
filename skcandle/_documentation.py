"""Links from the HTML representation of an estimator to its page in the documentation."""

from importlib.metadata import PackageNotFoundError, metadata


class DocumentedMixin:
    """Links an estimator to its page, once the package states where its documentation is.

    scikit-learn reads these attributes. The address is the project URL "Documentation" in
    pyproject.toml; without one, there is no link.
    """

    _doc_link_module = "skcandle"

    @property
    def _doc_link_template(self):
        address = _address()
        return f"{address.rstrip('/')}/generated/{{page}}.html" if address else ""

    def _doc_link_url_param_generator(self):
        return {"page": f"skcandle.{type(self).__name__}"}


def _address():
    try:
        urls = metadata("skcandle").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from its sources
        urls = []
    by_label = dict(url.split(", ", 1) for url in urls)
    return by_label.get("Documentation", "")
