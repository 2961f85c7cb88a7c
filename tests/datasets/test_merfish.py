from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import isost
from isost.datasets import _remote

BREGMA = [-28.999999999999996, -4.0, 26.0]  # as the file has them, hundredths of a millimetre
CLASSES = ["Ambiguous", "Astrocyte", "Inhibitory", "Unused"]


@pytest.fixture
def published():
    """A small file with the layout of the published one."""
    rng = np.random.default_rng(0)
    X = rng.gamma(0.5, 4.0, (60, 5)).astype(np.float32) * (rng.random((60, 5)) < 0.5)
    X[:, 2] = np.nan  # a gene that was not measured in this animal
    classes = pd.Categorical(rng.choice(CLASSES[:3], 60), categories=CLASSES)
    obs = pd.DataFrame({"Bregma": np.repeat(BREGMA, 20), "Cell_class": classes}, index=[f"cell{i}" for i in range(60)])
    return ad.AnnData(
        sp.csr_matrix(X),
        obs=obs,
        var=pd.DataFrame(index=["Gad1", "Blank_1", "Fos", "Mbp", "Cd24a"]),
        obsm={"spatial": rng.normal(0, 500, (60, 2))},
        uns={"Cell_class_colors": ["#000000", "#111111", "#222222", "#333333"]},
    )


@pytest.fixture
def served(published, tmp_path, monkeypatch):
    """That file on a server of this machine, its address and checksum in place of the real ones; requests by path."""
    folder = tmp_path / "served"
    folder.mkdir()
    published.write_h5ad(folder / "merfish.h5ad")
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/merfish.h5ad"
    checksum = hashlib.sha256((folder / "merfish.h5ad").read_bytes()).hexdigest()
    monkeypatch.setitem(_remote.REMOTE, "merfish_poa.h5ad", _remote.Remote(url, checksum))
    monkeypatch.setenv("ISOST_CACHE_DIR", str(tmp_path / "cache"))
    yield requests
    server.shutdown()
    server.server_close()


def test_sections_from_anterior_to_posterior(published, served):
    sections = isost.datasets.merfish_poa()
    assert [section.obs["section"].iloc[0] for section in sections] == ["bregma_0.26", "bregma_-0.04", "bregma_-0.29"]
    assert [section.obs["z"].unique().tolist() for section in sections] == [[0.0], [300.0], [550.0]]
    kept = published[(published.obs["Bregma"] == 26) & (published.obs["Cell_class"] != "Ambiguous")]
    first = sections[0]
    assert list(first.var_names) == ["Gad1", "Mbp", "Cd24a"]
    assert list(first.obs_names) == list(kept.obs_names)
    np.testing.assert_allclose(first.X.toarray(), np.log1p(kept[:, first.var_names].X.toarray()), rtol=1e-6)
    np.testing.assert_array_equal(first.obsm["spatial"], kept.obsm["spatial"])
    assert list(first.obs["cell_class"].cat.categories) == ["Astrocyte", "Inhibitory"]
    assert list(first.uns["cell_class_colors"]) == ["#111111", "#222222"]
    assert isost.pp.slice_stack(sections).obs["section"].cat.categories.tolist() == [
        "bregma_0.26", "bregma_-0.04", "bregma_-0.29",
    ]  # fmt: skip


def test_it_is_downloaded_once_and_some_sections_can_be_chosen(served):
    chosen = isost.datasets.merfish_poa(bregma=[-0.29, 0.26])
    assert [section.obs["bregma"].iloc[0] for section in chosen] == [0.26, -0.29]
    with pytest.raises(ValueError, match=r"no sections at bregma \[0.5\] mm, only at \[0.26, -0.04, -0.29\]"):
        isost.datasets.merfish_poa(bregma=[0.5])
    assert served == ["/merfish.h5ad"]


def test_another_file_than_the_expected_one_is_refused(served, monkeypatch, tmp_path):
    remote = _remote.REMOTE["merfish_poa.h5ad"]
    monkeypatch.setitem(_remote.REMOTE, "merfish_poa.h5ad", _remote.Remote(remote.url, "0" * 64))
    with pytest.raises(ValueError, match="hash"):
        isost.datasets.merfish_poa()
    assert not list((tmp_path / "cache").iterdir())
