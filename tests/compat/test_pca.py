from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from isost.compat import convert_pca, read_genes, read_mean_sd

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).gamma(2.0, size=(40, 6)) * [1, 2, 3, 4, 5, 6]
MODELS = {
    "bare": PCA(3),
    "whitened": PCA(3, whiten=True),
    "scaled": make_pipeline(StandardScaler(), PCA(3)),
    "centred alone": make_pipeline(StandardScaler(with_std=False), PCA(3)),
    "scaled alone": make_pipeline(StandardScaler(with_mean=False), PCA(3, whiten=True)),
    "passed through": make_pipeline("passthrough", PCA(3)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_arrays_decode_as_the_model_does(tmp_path: Path, kind: str) -> None:
    model = MODELS[kind].fit(X)
    pcs = model.transform(X)
    joblib.dump(model, tmp_path / "model.pkl")
    converted = convert_pca(tmp_path / "model.pkl", tmp_path / "pca.npz", trusted=True)
    again = convert_pca(tmp_path / "pca.npz")
    for pca in (converted, again, convert_pca(model)):
        np.testing.assert_allclose(pca.inverse_transform(pcs), model.inverse_transform(pcs), rtol=1e-5, atol=1e-5)
    assert again.genes is None
    assert converted.is_orthonormal == ("white" not in kind and kind != "scaled alone")


def test_names_are_kept(tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=list("abcdef"))
    assert convert_pca(make_pipeline(StandardScaler(), PCA(2)).fit(table)).genes == tuple("abcdef")
    convert_pca(PCA(2).fit(X), tmp_path / "pca.npz", genes=list("uvwxyz"))
    assert convert_pca(tmp_path / "pca.npz").genes == tuple("uvwxyz")
    with pytest.raises(ValueError, match="has 6 genes, and 1 names"):
        convert_pca(PCA(2).fit(X), genes=["a"])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pca.npz").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"pca\.npz exists"):
        convert_pca(PCA(2).fit(X), tmp_path / "pca.npz")
    assert (tmp_path / "pca.npz").read_bytes() == b"mine"


@pytest.mark.parametrize("other", [PCA(2), StandardScaler(), make_pipeline(MinMaxScaler(), StandardScaler()), 3])
def test_other_things_are_refused(other: Any) -> None:
    with pytest.raises(ValueError, match="neither a fitted PCA nor a Pipeline"):
        convert_pca(other)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (convert_pca, read_genes, lambda path: read_mean_sd(path, [])):
        with pytest.raises(FileNotFoundError, match="none"):
            read(tmp_path / "none.csv")


def test_genes_are_read_from_either_column(tmp_path: Path) -> None:
    pd.DataFrame({"gene_symbol": ["a", "NA"]}).to_csv(tmp_path / "gene.csv")
    assert read_genes(tmp_path / "gene.csv") == ["a", "NA"]  # NA is a gene, and no missing value
    pd.DataFrame({"gene": ["b"]}).to_csv(tmp_path / "gene.csv")
    assert read_genes(tmp_path / "gene.csv") == ["b"]
    pd.DataFrame({"other": ["b"]}).to_csv(tmp_path / "gene.csv")
    with pytest.raises(ValueError, match=r"gene\.csv has no column gene_symbol"):
        read_genes(tmp_path / "gene.csv")


def test_a_z_score_is_undone(tmp_path: Path) -> None:
    mean, sd = X.mean(0), X.std(0)
    genes = list("abcdef")
    pca = convert_pca(PCA(6).fit((X - mean) / sd), genes=genes)
    table = pd.DataFrame({"mean": mean, "sd": sd}, index=genes).iloc[::-1]  # in any order
    table.to_csv(tmp_path / "mean_sd.csv", index_label="gene_symbol")
    raw = pca.unscaled(*read_mean_sd(tmp_path / "mean_sd.csv", genes))
    pcs = PCA(6).fit((X - mean) / sd).transform((X - mean) / sd)
    np.testing.assert_allclose(raw.inverse_transform(pcs), X, atol=1e-4)


def test_means_and_deviations_come_back_to_the_last_bit(tmp_path: Path) -> None:
    genes = [f"{i:04}" for i in range(3000)]  # names that look like numbers are names
    table = pd.DataFrame(np.random.default_rng(0).lognormal(sigma=50, size=(3000, 2)), genes, ["mean", "sd"])
    table.to_csv(tmp_path / "mean_sd.csv", index_label="gene_symbol")
    np.testing.assert_array_equal(np.column_stack(read_mean_sd(tmp_path / "mean_sd.csv", genes)), table)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"gene": ["a", "b"], "mean": [0, 0]}, "lacks the column sd"),
        ({"gene": ["a"], "mean": [0], "sd": [1]}, "lacks 1 of 2 genes, such as 'b'"),
        ({"gene": ["a", "b", "b"], "mean": [0] * 3, "sd": [1] * 3}, "names gene 'b' twice"),
        ({"gene": ["a", "b"], "mean": [0, 0], "sd": [1, -1]}, "none negative"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: dict[str, Any], words: str) -> None:
    pd.DataFrame(table).to_csv(tmp_path / "mean_sd.csv", index=False)
    with pytest.raises(ValueError, match=words):
        read_mean_sd(tmp_path / "mean_sd.csv", ["a", "b"])
