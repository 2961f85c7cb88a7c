"""From sections to expression, by files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from isost.compat import (
    VolumeProcessor,
    biaxial_train,
    check_outputs,
    convert_pca,
    default_z_scale,
    fine_inference,
    read_genes,
)
from isost.compat._inference import frame_paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_train_infer_volume_parquet(
    tmp_path: Path,
    slides: Path,
    names: list[str],
    quick: dict[str, Any],
    plain_volume: Callable[..., tuple[np.ndarray, np.ndarray]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    experiment, result = tmp_path / "experiments", tmp_path / "result"
    assert not check_outputs(experiment, result)["there"].any()

    biaxial_train(experiment, **quick | {"data_dir": slides / "1_of_2_normPC_1"})
    fine_inference(experiment, slides, names, "joint", 0.025, result, 2, progress=False)
    genes, pca = read_genes(slides / "gene.csv"), convert_pca(slides / "pca.npz")
    low, scale = (pd.read_csv(slides / name) for name in ("min_dic.csv", "scale_dic.csv"))
    frames = [np.load(path) for path in frame_paths(result)]
    size, max_lence = (1.0, 1.0, 0.6), 12
    processor = VolumeProcessor(slides, result, size, genes, max_lence)
    z_scale = default_z_scale(slides)
    for swamp in (False, True):
        for divisor in (None, z_scale):
            volume, count = processor.result_to_volume(4, z_scale=divisor, swamp=swamp)
            expected = plain_volume(frames, low, scale, size, max_lence, z_scale=divisor, swamp=swamp)
            np.testing.assert_array_equal(count, expected[1])
            np.testing.assert_allclose(volume, expected[0], rtol=1e-6, atol=1e-6, equal_nan=True)
    assert f"z_scale={z_scale:.9g}" in caplog.text  # said where it was not given

    processor.save(volume, count)
    path = processor.pc_to_expression(volume, pca, max_lence)
    outputs = check_outputs(experiment, result)
    assert outputs["there"].all()
    assert [name.rsplit("/", 1)[1] for name in outputs["file"]] == [
        "config.yml",
        "model.pt",
        "checkpoint_*.pt",
        "*_forward.npy",
        "volume.npy",
        "density.npy",
        "pc_volume.csv",
        "log2_expr_12_all_pc.parquet",
    ]
    n_voxels = int((count > 0).sum())
    assert list(outputs["what"])[2:] == [
        "3 checkpoints",
        f"{len(frames)} frames",
        "(12, 12, 8, 4) float64",
        "(12, 12, 8) float64",
        f"{n_voxels} rows, 8 columns",
        f"{n_voxels} rows, {3 + len(genes)} columns",
    ]
    np.testing.assert_array_equal(np.load(result / "volume.npy"), volume)
    table = pd.read_csv(result / "pc_volume.csv", index_col=0)
    expression = pd.read_parquet(path)
    np.testing.assert_allclose(
        expression[genes], pca.inverse_transform(table[["PC1", "PC2", "PC3", "PC4"]]), rtol=1e-5, atol=1e-5
    )


def test_frames_and_csvs_of_two_sets_are_told_apart(
    tmp_path: Path, slides: Path, names: list[str], quick: dict[str, Any]
) -> None:
    biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})
    fine_inference(tmp_path / "run", slides, names, result_dir=tmp_path / "result", progress=False)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("min_dic.csv", "scale_dic.csv"):
        (pd.read_csv(slides / name) + 1).to_csv(other / name, index=False)
    processor = VolumeProcessor(other, tmp_path / "result", (1, 1, 1), [], 10)
    with pytest.raises(ValueError, match=r"other/min_dic\.csv and scale_dic\.csv are not those of the sections"):
        processor.result_to_volume(4)
    assert not (tmp_path / "result" / "volume.npy").exists()
