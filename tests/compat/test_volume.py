from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from isost.compat import VolumeProcessor, convert_pca

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GENES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def tables(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    low = pd.DataFrame({"x": [10.0], "y": [20.0], "PC_1": [-3.0], "PC_2": [0.5], "PC_3": [-1.0]})
    scale = pd.DataFrame({"xy": [1.6], "PC_1": [7.0], "PC_2": [2.0], "PC_3": [4.0]})
    low.to_csv(tmp_path / "min_dic.csv", index=False)
    scale.to_csv(tmp_path / "scale_dic.csv", index=False)
    return low, scale


@pytest.fixture
def frames(tmp_path: Path) -> list[np.ndarray]:
    """Frames that stick out of the volume on every side, some points exactly on faces between voxels."""
    random = np.random.default_rng(0)
    made = []
    for number in range(11):  # so that 10 comes after 9, and not after 1
        frame = random.uniform(-0.1, 1.1, (40, 6)).astype(np.float32)
        frame[:, 2] = 0.1 * number
        frame[:5, :2] = np.array([0, 0.1, 0.2, 0.5, 1])[:, None]
        np.save(tmp_path / f"{number}_forward.npy", frame)
        made.append(frame)
    return made


def processor(folder: Path, size: tuple[float, float, float] = (1.0, 0.8, 0.5), max_lence: int = 10) -> VolumeProcessor:
    return VolumeProcessor(folder, folder, size, GENES, max_lence)


@pytest.mark.parametrize("swamp", [False, True])
@pytest.mark.parametrize("z_scale", [None, 2.5])
@pytest.mark.parametrize("max_lence", [7, 10])
def test_the_volume_is_that_of_a_plain_loop(
    tmp_path: Path,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    frames: list[np.ndarray],
    plain_volume: Callable[..., tuple[np.ndarray, np.ndarray]],
    *,
    swamp: bool,
    z_scale: float | None,
    max_lence: int,
) -> None:
    size = (1.0, 0.8, 0.5)
    volume, count = processor(tmp_path, size, max_lence).result_to_volume(3, z_scale=z_scale, swamp=swamp)
    expected = plain_volume(frames, *tables, size, max_lence, z_scale=z_scale, swamp=swamp)
    np.testing.assert_array_equal(count, expected[1])
    np.testing.assert_allclose(volume, expected[0], rtol=0, atol=1e-6, equal_nan=True)
    assert np.isnan(volume[count == 0]).all()
    assert 0 < (count > 0).sum() < count.size
    assert volume.dtype == count.dtype == np.float64


def test_the_time_volume_has_a_layer_for_each_frame(
    tmp_path: Path, tables: tuple[pd.DataFrame, pd.DataFrame], frames: list[np.ndarray]
) -> None:
    volume, count = processor(tmp_path, (1.0, 1.0, 11)).result_to_time_volume(3, z_scale=0.1)
    low, scale = tables
    every = np.concatenate(frames)[:, :2]
    width = (every.max(0) - every.min(0)).max()
    assert volume.shape == (10, 10, 11, 3)
    for number, frame in enumerate(frames):
        index = np.floor((frame[:, :2] - every.min(0)) / width / 0.1).astype(int)
        inside = (index < 10).all(1)
        assert count[:, :, number].sum() == inside.sum()
        for x, y in np.unique(index[inside], axis=0):
            own = frame[(index == [x, y]).all(1), 3:].astype(float)
            expected = own.mean(0) * scale[["PC_1", "PC_2", "PC_3"]].to_numpy()[0]
            expected = expected + low[["PC_1", "PC_2", "PC_3"]].to_numpy()[0]
            np.testing.assert_allclose(volume[x, y, number], expected, atol=1e-6)


@pytest.mark.usefixtures("tables", "frames")
def test_a_volume_becomes_a_table_and_expression(tmp_path: Path) -> None:
    own = processor(tmp_path)
    volume, count = own.result_to_volume(3)
    table = own.volume_to_df(volume)
    assert list(table) == ["x", "y", "z", "PC1", "PC2", "PC3"]
    assert len(table) == (count > 0).sum()
    assert (table.dtypes == np.float64).all()
    np.testing.assert_array_equal(table[["x", "y", "z"]].to_numpy(), np.argwhere(count > 0))
    x, y, z = table.loc[3, ["x", "y", "z"]].astype(int)
    np.testing.assert_array_equal(table.loc[3, ["PC1", "PC2", "PC3"]], volume[x, y, z])
    assert list(own.volume_to_df(volume, ["u", "v", "w"])) == ["x", "y", "z", "u", "v", "w"]

    pca = PCA(3).fit(np.random.default_rng(1).normal(size=(30, 5)))
    path = own.pc_to_expression(volume, pca, 10)
    assert path == str(tmp_path / "log2_expr_10_all_pc.parquet")
    expression = pd.read_parquet(path)
    assert list(expression) == ["x", "y", "z", *GENES]
    assert (expression.dtypes == np.float32).all()
    expected = pca.inverse_transform(table[["PC1", "PC2", "PC3"]].to_numpy())
    np.testing.assert_allclose(expression[GENES], expected, rtol=1e-5, atol=1e-5)
    # the same from plain arrays, and back into a volume
    again = pd.read_parquet(own.pc_to_expression(volume, convert_pca(pca), 10, name="again.parquet"))
    np.testing.assert_allclose(again, expression, rtol=1e-5, atol=1e-5)
    back = VolumeProcessor(tmp_path, tmp_path, (10, 8, 5), GENES, 10).df_to_volume(expression)
    assert back.shape == (10, 8, 5, 5)
    np.testing.assert_array_equal(np.isnan(back[..., 0]), count == 0)
    np.testing.assert_array_equal(back[count > 0], expression[GENES].to_numpy())


@pytest.mark.usefixtures("tables", "frames")
def test_long_tables_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = processor(tmp_path)
    volume, _ = own.result_to_volume(3)
    pca = PCA(3).fit(np.random.default_rng(1).normal(size=(30, 5)))
    whole = pd.read_parquet(own.pc_to_expression(volume, pca, 10, name="whole.parquet"))
    monkeypatch.setattr("isost.compat._volume._ROWS", 7)
    pieces = pd.read_parquet(own.pc_to_expression(volume, pca, 10, name="pieces.parquet"))
    pd.testing.assert_frame_equal(pieces, whole)
    empty = own.pc_to_expression(np.full((2, 2, 2, 3), np.nan), pca, 10, name="empty.parquet")
    assert pd.read_parquet(empty).shape == (0, 8)


@pytest.mark.usefixtures("tables", "frames")
def test_replacing_a_table_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = processor(tmp_path)
    volume, _ = own.result_to_volume(3)
    pca = PCA(3).fit(np.random.default_rng(1).normal(size=(30, 5)))
    own.pc_to_expression(volume, pca, 10)
    assert "is replaced" not in caplog.text
    own.pc_to_expression(volume, pca, 10)
    assert "log2_expr_10_all_pc.parquet is replaced" in caplog.text


@pytest.mark.usefixtures("tables", "frames")
def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    own = processor(tmp_path)
    volume, _ = own.result_to_volume(3)

    def refused(words: str, call: Callable[[], Any], error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=words):
            call()

    refused(r"n_features is 4, but .*scale_dic\.csv has 3", lambda: own.result_to_volume(4))
    refused("z_scale must be positive", lambda: own.result_to_volume(3, z_scale=0.0))
    refused("volume_size must be three positive", lambda: VolumeProcessor(tmp_path, tmp_path, (1.0, 0.0, 1.0), [], 10))
    refused("max_lence must be positive", lambda: VolumeProcessor(tmp_path, tmp_path, (1.0, 1.0, 1.0), [], 0))
    refused("genelist 1 names", lambda: own.volume_to_df(volume, ["one"]))
    refused("four axes", lambda: own.volume_to_df(volume[0]))
    refused("numbers of voxels", lambda: own.df_to_volume(pd.DataFrame()))
    whole = VolumeProcessor(tmp_path, tmp_path, (2, 2, 2), GENES, 10)
    table = pd.DataFrame([[0.0, 0, 0, 1, 2, 3, 4, 5]], columns=["x", "y", "z", *GENES])
    refused("lacks 1 columns, such as 'e'", lambda: whole.df_to_volume(table.drop(columns="e")))
    refused("outside of volume_size", lambda: whole.df_to_volume(table + 2))
    pca = PCA(3).fit(np.random.default_rng(1).normal(size=(30, 4)))
    refused("the PCA has 4 genes, and gene_list 5", lambda: own.pc_to_expression(volume, pca, 10))
    assert not list(tmp_path.glob("*.parquet"))
    refused(r"there is no .*min_dic\.csv", lambda: processor(tmp_path / "nowhere"), FileNotFoundError)
    (tmp_path / "3_forward.npy").write_bytes(b"\x93NUMPY")
    refused(r"3_forward\.npy is damaged", lambda: own.result_to_volume(3))
    np.save(tmp_path / "3_forward.npy", np.zeros((4, 5)))
    refused(r"3_forward\.npy has shape \(4, 5\)", lambda: own.result_to_volume(3))
    (tmp_path / "3_forward.npy").unlink()
    refused(r"lacks the frame 3_forward\.npy, of 11", lambda: own.result_to_volume(3), FileNotFoundError)
