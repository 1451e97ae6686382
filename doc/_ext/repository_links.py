"""Relative links between files of the repository, which also work on code hosts.

A link to a file that is a page of the site becomes a link to that page. A link to another file
becomes a download. A broken link causes a warning, which fails the build.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.rst": "index",
    "CHANGES.rst": "changes",
    "CONTRIBUTING.rst": "contributing",
    "SECURITY.rst": "security",
    "benchmarks/README.rst": "benchmarks",
    "benchmarks/results": "benchmark_results",
}
logger = logging.getLogger(__name__)


def resolve(app, doctree):
    docname = app.env.docname
    for link in list(doctree.findall(nodes.reference)):
        uri = link.get("refuri", "")
        if not uri or ":" in uri or uri.startswith("#"):
            continue
        source = link.parent.source or doctree["source"]
        path = (Path(source.partition(":docstring")[0]).parent / uri).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        page = PAGES.get(name) or name.removeprefix("doc/").removesuffix(".rst")
        if page in app.env.found_docs:
            found = addnodes.pending_xref(
                "", refdomain="std", reftype="doc", reftarget=f"/{page}", refdoc=docname,
                refexplicit=True, refwarn=True,
            )  # fmt: skip
        elif path.is_file():
            found = addnodes.download_reference("", reftarget=f"/../{name}")
        else:
            logger.warning("link to %s, which is not a file", uri, location=link)
            continue
        text = link.astext()
        found += nodes.inline("", text) if text != uri else nodes.literal("", text)
        link.replace_self(found)


def setup(app):
    app.connect("doctree-read", resolve, priority=400)  # before Sphinx collects downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
