from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ._remote import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["merfish_poa"]

_MICROMETRES = 10.0  # to a unit of the file's Bregma


def merfish_poa(*, bregma: Sequence[float] | None = None) -> list[ad.AnnData]:
    """MERFISH sections of the mouse hypothalamic preoptic area, 1.8 mm wide and 50 µm apart (Moffitt et al. 2018).

    The twelve sections of one naive female animal, in the common frame of the publication, which differs from a rigid
    registration of neighbours by at most a third of a degree and about 30 µm. The file, about 50 MB, is downloaded
    once, checked, and kept in ``$ISOST_CACHE_DIR`` or, without it, in the user's cache.

    Parameters
    ----------
    bregma
        Only these sections, by their position from bregma in millimetres: 0.26, 0.21, …, -0.29.

    Returns
    -------
    List of AnnData from anterior to posterior, without ambiguous cells, blank barcodes and genes that were not
    measured in this animal, each with:

    X
        log1p of the published values, which are counts by cell volume; CSR, float32.
    obsm["spatial"]
        x and y (n, 2), micrometres.
    obs["section"], obs["z"]
        Name, and depth behind the first of the twelve, micrometres.
    obs["bregma"]
        Position from bregma, millimetres.
    obs["cell_class"], uns["cell_class_colors"]
        Categorical, the same in all sections, and its colours.

    Raises
    ------
    ValueError
        If the downloaded file is not the expected one, or there is no section at a position of `bregma`.

    References
    ----------
    Moffitt et al., Science 362, eaau5324 (2018), doi:10.1126/science.aau5324. Data: doi:10.5061/dryad.8t8s248, CC0,
    as AnnData by squidpy (:func:`squidpy.datasets.merfish`).

    Examples
    --------
    >>> sections = isost.datasets.merfish_poa(bregma=[-0.04, -0.09, -0.14, -0.19, -0.24])
    >>> volume = isost.tl.reconstruct(sections)
    """
    adata = _tidied(ad.read_h5ad(fetch("merfish_poa.h5ad")))
    places = sorted(adata.obs["bregma"].unique().tolist(), reverse=True)
    wanted = places if bregma is None else [round(float(place), 2) for place in bregma]
    if missing := [place for place in wanted if place not in places]:
        msg = f"there are no sections at bregma {missing} mm, only at {places}"
        raise ValueError(msg)
    return [adata[adata.obs["bregma"] == place].copy() for place in places if place in wanted]


def _tidied(published: ad.AnnData) -> ad.AnnData:
    """All sections' cells and genes that are to be used, under the names of this package."""
    X = sp.csr_matrix(published.X, dtype=np.float32)
    unmeasured = np.isnan(np.asarray(X.sum(axis=0)).ravel())
    genes = ~(published.var_names.str.startswith("Blank") | unmeasured)
    cells = (published.obs["Cell_class"] != "Ambiguous").to_numpy()
    obs = published.obs[cells]
    bregma = (obs["Bregma"] / 100).round(2)
    classes = obs["Cell_class"].astype("category").cat.remove_unused_categories()
    tidied = ad.AnnData(
        X[cells][:, genes].log1p(),
        obs=pd.DataFrame(
            {
                "section": pd.Categorical([f"bregma_{place:.2f}" for place in bregma]),
                "z": (published.obs["Bregma"].max() - obs["Bregma"]).round() * _MICROMETRES,
                "bregma": bregma,
                "cell_class": classes,
            }
        ),
        var=published.var.loc[genes, []],
        obsm={"spatial": np.asarray(published.obsm["spatial"], dtype=np.float64)[cells, :2]},
    )
    if "Cell_class_colors" in published.uns:
        named = dict(zip(published.obs["Cell_class"].cat.categories, published.uns["Cell_class_colors"], strict=True))
        tidied.uns["cell_class_colors"] = [str(named[name]) for name in classes.cat.categories]
    return tidied
