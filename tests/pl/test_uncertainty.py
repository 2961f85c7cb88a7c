from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import isost

if TYPE_CHECKING:
    import anndata as ad

    from .conftest import Organ


def test_the_curve_has_the_median_of_each_depth_and_the_measured_sections(organ: Organ) -> None:
    volume = organ.volume
    curve = isost.pl.uncertainty(volume, unit="µm", show=False).axes[1]
    median, *measured = curve.lines
    depth = volume.obsm["spatial"][:, 2]
    expected = volume.obs["uncertainty"].groupby(depth).median()
    np.testing.assert_allclose(median.get_xydata(), np.c_[expected.index, expected])
    assert [line.get_xdata()[0] for line in measured] == sorted(set(depth[volume.obs["measured"]]))
    assert curve.get_xlabel() == "z (µm)"


def test_a_volume_without_uncertainty(volume: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"no obs\['uncertainty'\]"):
        isost.pl.uncertainty(volume, show=False)


def test_uncertainty_that_is_missing_everywhere(organ: Organ) -> None:
    volume = organ.volume.copy()
    volume.obs["uncertainty"] = np.nan
    with pytest.raises(ValueError, match="'uncertainty' is missing everywhere"):
        isost.pl.uncertainty(volume, show=False)
