"""Settings of the documentation, which ``make -C doc html`` builds without a network."""

import inspect
import os
import sys
from importlib import import_module
from pathlib import Path

import skcandle

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ["HF_HUB_OFFLINE"] = "1"  # examples use only the bundled model


def own_methods(module, name):
    """Methods defined by this library; those of scikit-learn are in its own documentation."""
    members = inspect.getmembers(getattr(import_module(module), name), inspect.isroutine)
    return [
        key
        for key, value in members
        if not key.startswith("_") and getattr(value, "__module__", "").startswith("skcandle")
    ]


project = "skcandle"
copyright = "the skcandle developers, BSD-3-Clause"
version = release = skcandle.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",  # for testsetup
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "issue_links",
    "mathml",
    "repository_links",
    "scikit_learn_links",
]
root_doc = "index"
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"  # `margin`, as in scikit-learn
nitpicky = True
suppress_warnings = ["config.cache"]  # for own_methods
if tags.has("noplot"):  # noqa: F821, tags comes from Sphinx
    suppress_warnings += ["image.not_readable"]  # for figures of examples

autosummary_generate = True
autosummary_context = {"own_methods": own_methods}
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc describes the types
numpydoc_show_class_members = False
numpydoc_use_plots = False

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "skcandle"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "method", "faq")}
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "subsection_order": [
        f"../examples/{group}"
        for group in ("first_steps", "label_sets", "training_data", "deployment")
    ],
    "within_subsection_order": "gallery_order.GalleryOrder",
    "plot_gallery": not tags.has("noplot"),  # noqa: F821
}
