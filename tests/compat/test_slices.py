from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

import isost
from isost._normalization import Normalization
from isost.compat import LinearPCA, default_z_scale, read_stack, write_stack
from isost.compat._normalization import read_normalization, write_normalization
from isost.pp import Stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

DEPTHS = {"a_log_PC": 0.3, "b_log_PC": 0.1, "c_log_PC": 0.2}


def test_what_is_written_comes_back(stack: AnnData, names: list[str], slides: Path) -> None:
    back = read_stack(slides, names)
    mine, theirs = Stack.from_anndata(stack), Stack.from_anndata(back)
    assert theirs.names == mine.names
    np.testing.assert_array_equal(theirs.state, mine.state)
    np.testing.assert_array_equal(theirs.normalization.minimum, mine.normalization.minimum)
    np.testing.assert_array_equal(theirs.normalization.scale, mine.normalization.scale)
    np.testing.assert_array_equal(theirs.z, mine.z)
    np.testing.assert_array_equal(theirs.loadings, mine.loadings)
    np.testing.assert_array_equal(theirs.gene_mean, mine.gene_mean)
    np.testing.assert_array_equal(theirs.gene_scale, mine.gene_scale)
    assert list(back.var_names) == list(stack.var_names)
    np.testing.assert_allclose(back.obsm["spatial"], stack.obsm["spatial"], rtol=0, atol=1e-4)
    assert back.X is None


def test_the_scales_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low, scale = rng.normal(size=3003), rng.lognormal(sigma=50, size=3003)
    scale[:3] = scale[0]
    write_normalization(tmp_path, Normalization(low, scale))
    back = read_normalization(tmp_path, z_scale=scale[0])
    np.testing.assert_array_equal(back.minimum, low)
    np.testing.assert_array_equal(back.scale, scale)


def test_the_expression_is_decoded_when_asked(stack: AnnData, names: list[str], slides: Path) -> None:
    back = read_stack(slides, names, decode=True)
    view = Stack.from_anndata(stack)
    pcs = view.normalization.decode(view.state[:, 3:], dims=slice(3, None))
    expected = (pcs @ view.loadings.T) * view.gene_scale + view.gene_mean
    np.testing.assert_allclose(back.X, expected, atol=1e-5)


def test_the_stack_survives_a_file(names: list[str], slides: Path, tmp_path: Path) -> None:
    stack = read_stack(slides, names, decode=True)
    isost.io.write(stack, tmp_path / "stack.h5ad")
    again = isost.io.read(tmp_path / "stack.h5ad")
    np.testing.assert_array_equal(Stack.from_anndata(again).state, Stack.from_anndata(stack).state)


def test_the_shuffle_is_fixed_and_the_files_are_tensors(
    stack: AnnData, names: list[str], slides: Path, tmp_path: Path
) -> None:
    write_stack(stack, tmp_path / "again")
    write_stack(stack, tmp_path / "other", seed=1)
    write_stack(stack, tmp_path / "plain", shuffle=False)
    view = Stack.from_anndata(stack)
    for k, name in enumerate(names):
        first, again, other = (
            torch.load(folder / f"shuffled_{name}.pt", weights_only=True)
            for folder in (slides, tmp_path / "again", tmp_path / "other")
        )
        plain = torch.load(tmp_path / "plain" / f"{name}.pt", weights_only=True)
        own = torch.from_numpy(view.state[view.section(k)])
        assert first.dtype == torch.float32
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(plain, own)
        assert not torch.equal(first, own)
        assert torch.equal(first[first[:, 3].argsort()], own[own[:, 3].argsort()])


def test_the_subsets_share_out_the_points(stack: AnnData, names: list[str], slides: Path) -> None:
    parts = [read_stack(slides / f"1_of_2_normPC_{i}", names) for i in (1, 2)]
    whole = Stack.from_anndata(stack)
    assert sum(part.n_obs for part in parts) == stack.n_obs
    rows = np.concatenate([part.obsm["X_isost"] for part in parts])
    np.testing.assert_array_equal(np.sort(rows[:, 3]), np.sort(whole.state[:, 3]))
    # each in the order of the stack
    own = parts[0].obsm["X_isost"][parts[0].obs["section"] == names[0]]
    places = [np.flatnonzero((whole.state[whole.section(0)] == row).all(1))[0] for row in own]
    assert places == sorted(places)
    assert not (slides / "1_of_2_normPC_3").exists()


def test_the_tables_have_the_published_columns(stack: AnnData, slides: Path) -> None:
    pcs = [f"PC_{i}" for i in range(1, 5)]
    assert list(pd.read_csv(slides / "min_dic.csv")) == ["x", "y", "z", *pcs]
    assert list(pd.read_csv(slides / "scale_dic.csv")) == ["xy", *pcs]
    genes = pd.read_csv(slides / "gene.csv", index_col=0)
    assert list(genes["gene_symbol"]) == list(stack.var_names)


@pytest.mark.parametrize("prefix", ["", "shuffled_"])
def test_a_folder_of_the_published_program_is_read(published_folder: Callable[..., Path], prefix: str) -> None:
    folder = published_folder(DEPTHS, prefix=prefix)
    stack = read_stack(folder, list(DEPTHS))
    view = Stack.from_anndata(stack)
    assert view.names == ("b_log_PC", "c_log_PC", "a_log_PC")  # by z
    np.testing.assert_allclose(view.depths, [0.1, 0.2, 0.3], atol=1e-7)
    raw = torch.load(folder / f"{prefix}b_log_PC.pt", weights_only=True).numpy()
    np.testing.assert_array_equal(view.state[view.section(0)], raw)
    # x = x' · xy + min, z as it is
    np.testing.assert_allclose(stack.obsm["spatial"][:40], raw[:, :3] * [2.5, 2.5, 1] + [3, -2, 0], rtol=1e-6)
    # without a PCA the components stand for genes
    assert list(stack.var_names) == ["PC_1", "PC_2", "PC_3", "PC_4"]
    decoded = read_stack(folder, list(DEPTHS), decode=True)
    pcs = view.normalization.decode(view.state[:, 3:], dims=slice(3, None))
    np.testing.assert_allclose(decoded.X, pcs, rtol=1e-6)


def test_the_pca_is_given_from_outside(published_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = published_folder(DEPTHS)
    random = np.random.default_rng(0)
    pca = LinearPCA(np.linalg.qr(random.normal(size=(7, 4)))[0], random.normal(size=7), random.uniform(1, 2, 7))
    genes = [f"gene{i}" for i in range(7)]
    with pytest.raises(ValueError, match=r"does not name its 7 genes.*pass genes="):
        read_stack(folder, list(DEPTHS), pca=pca)
    stack = read_stack(folder, list(DEPTHS), pca=pca, genes=genes, decode=True)
    assert stack.shape == (120, 7)
    pd.DataFrame({"gene_symbol": genes}).to_csv(folder / "gene.csv")
    pca.save(tmp_path / "pca.npz")
    again = read_stack(folder, list(DEPTHS), pca=tmp_path / "pca.npz", decode=True)
    np.testing.assert_array_equal(again.X, stack.X)
    with pytest.raises(ValueError, match="genes= needs the PCA"):
        read_stack(folder, list(DEPTHS), genes=genes)
    whitened = LinearPCA(pca.loadings * 2, pca.gene_mean, pca.gene_scale)
    with pytest.raises(ValueError, match="whitened"):
        read_stack(folder, list(DEPTHS), pca=whitened)
    narrow = LinearPCA(pca.loadings[:, :3], pca.gene_mean, pca.gene_scale)
    with pytest.raises(ValueError, match="has 3 components, but the sections have 4"):
        read_stack(folder, list(DEPTHS), pca=narrow)
    with pytest.raises(ValueError, match="not all different"):
        read_stack(folder, list(DEPTHS), pca=pca, genes=["one"] * 7)


def test_a_stack_of_components_alone_round_trips(published_folder: Callable[..., Path], tmp_path: Path) -> None:
    stack = read_stack(published_folder(DEPTHS), list(DEPTHS))
    write_stack(stack, tmp_path / "copy")
    assert not {"gene.csv", "pca.npz"} & {path.name for path in (tmp_path / "copy").iterdir()}
    back = read_stack(tmp_path / "copy", list(DEPTHS))
    np.testing.assert_array_equal(back.obsm["X_isost"], stack.obsm["X_isost"])
    assert default_z_scale(tmp_path / "copy") is None


def test_the_scale_of_z_is_kept(stack: AnnData, slides: Path) -> None:
    scale = stack.uns["isost"]["normalization"]["scale"]
    assert default_z_scale(slides) == pytest.approx(scale[0] / scale[2])


def test_nothing_is_overwritten(stack: AnnData, slides: Path) -> None:
    before = {path: path.read_bytes() for path in slides.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="exists: choose another folder, nothing was written"):
        write_stack(stack, slides)
    assert {path: path.read_bytes() for path in slides.rglob("*") if path.is_file()} == before


def test_impossible_requests_are_named(stack: AnnData, names: list[str], slides: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subsets="):
        write_stack(stack, tmp_path / "new", subsets=[10_000])
    renamed = stack.copy()
    renamed.obs["section"] = renamed.obs["section"].cat.rename_categories({names[0]: "a/b"})
    renamed.uns["isost"]["sections"]["names"] = np.array(["a/b", *names[1:]], dtype=object)
    with pytest.raises(ValueError, match="'a/b' cannot be a file name"):
        write_stack(renamed, tmp_path / "new")
    with pytest.raises(ValueError, match="different sections"):
        read_stack(slides, [names[0]] * 2)
    assert not (tmp_path / "new").exists()


def _rewrite(path: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_csvs_that_do_not_fit_are_refused(published_folder: Callable[..., Path]) -> None:
    names = list(DEPTHS)
    folder = published_folder(DEPTHS)
    low, scale = ((folder / name).read_bytes() for name in ("min_dic.csv", "scale_dic.csv"))

    def refused(words: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=words):
            read_stack(folder, names)
        (folder / "min_dic.csv").write_bytes(low)
        (folder / "scale_dic.csv").write_bytes(scale)

    _rewrite(folder / "min_dic.csv", lambda table: table.drop(columns="PC_4"))
    refused(r"min_dic\.csv has 3 components, and these sections have 4: it is of another set")
    _rewrite(folder / "scale_dic.csv", lambda table: table.drop(columns="PC_2"))
    refused(r"scale_dic\.csv must have columns PC_1, PC_2")
    _rewrite(folder / "scale_dic.csv", lambda table: table.drop(columns="xy"))
    refused(r"scale_dic\.csv lacks the column xy")
    _rewrite(folder / "scale_dic.csv", lambda table: -table)
    refused(r"scale_dic\.csv must hold positive numbers")
    _rewrite(folder / "min_dic.csv", lambda table: pd.concat([table, table]))
    refused(r"min_dic\.csv must hold one row of finite numbers")
    (folder / "min_dic.csv").write_text("")
    refused(r"min_dic\.csv is damaged")
    (folder / "min_dic.csv").unlink()
    refused(r"there is no .*min_dic\.csv", FileNotFoundError)
    # an index column, as pandas writes one, is no harm
    pd.read_csv(folder / "min_dic.csv").to_csv(folder / "min_dic.csv")
    read_stack(folder, names)


def test_csvs_of_another_set_are_refused(names: list[str], slides: Path) -> None:
    _rewrite(slides / "min_dic.csv", lambda table: table + 1)
    with pytest.raises(ValueError, match=r"min_dic\.csv and scale_dic\.csv are not those that were written with these"):
        read_stack(slides, names)


def test_sections_that_do_not_fit_are_refused(published_folder: Callable[..., Path]) -> None:
    folder = published_folder(DEPTHS)
    with pytest.raises(FileNotFoundError, match=r"'d_log_PC' has no file in .*: neither shuffled_d_log_PC\.pt nor"):
        read_stack(folder, [*DEPTHS, "d_log_PC"])
    torch.save(torch.rand(40, 6), folder / "c_log_PC.pt")
    with pytest.raises(ValueError, match=r"c_log_PC\.pt has 3 components, but a_log_PC has 4"):
        read_stack(folder, list(DEPTHS))
    (folder / "c_log_PC.pt").unlink()
    names = ["a_log_PC", "b_log_PC"]
    whole = (folder / "a_log_PC.pt").read_bytes()
    section = torch.load(folder / "a_log_PC.pt", weights_only=True)
    for content, words in (
        (section[:, :3], "columns x, y, z and components"),
        (section.int(), "must hold one float tensor"),
        ({"state": section}, "must hold one float tensor .* but holds dict"),
        (section / 0, "not finite"),
    ):
        torch.save(content, folder / "a_log_PC.pt")
        with pytest.raises(ValueError, match=rf"a_log_PC\.pt.*{words}"):
            read_stack(folder, names)
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        (folder / "a_log_PC.pt").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a_log_PC\.pt is (damaged|not loaded)"):
            read_stack(folder, names)
    (folder / "a_log_PC.pt").write_bytes((folder / "b_log_PC.pt").read_bytes())
    with pytest.raises(ValueError, match="lie at one depth"):
        read_stack(folder, names)


def test_rows_of_another_file_are_refused(names: list[str], slides: Path) -> None:
    path = slides / f"shuffled_{names[0]}.pt"
    torch.save(torch.load(path, weights_only=True)[:-1], path)
    with pytest.raises(ValueError, match=rf"shuffled_{names[0]}\.pt has .* points, but .*rows\.npz"):
        read_stack(slides, names)
