"""How the documentation is built; `make docs` does it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import isost

project = "isost"
author = "the isost developers"
project_copyright = f"{datetime.now(tz=UTC):%Y}, {author}"
release = version = isost.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_jupyter"]
templates_path = ["_templates"]
smartquotes_action = "D"  # dashes alone: quotes would be changed in obsm["spatial"], too
default_role = "py:obj"

html_theme = "sphinx_book_theme"
html_title = "isost"
html_static_path: list[str] = []
html_theme_options = {"show_toc_level": 2, "path_to_docs": "docs"}

# docstrings: types stand in signatures alone; what is returned is described in prose and definition lists
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_custom_sections = ["Attributes", "Returns", "Warns"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# pages with code are run, in a folder that is deleted afterwards; what they print to stderr fails the build
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove-warn"
os.environ["JUPYTER_PATH"] = str(
    Path(__file__).parent / "_jupyter"
)  # run by this Python, figures in the page, no widgets

# Links to other packages' documentation need the network: ISOST_DOCS_LINKS=1 makes them.
intersphinx_mapping = (
    {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "plotly": ("https://plotly.com/python-api-reference/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "squidpy": ("https://squidpy.readthedocs.io/en/stable/", None),
        "torch": ("https://pytorch.org/docs/stable/", None),
    }
    if os.environ.get("ISOST_DOCS_LINKS") == "1"
    else {}
)
