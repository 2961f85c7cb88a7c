"""Nothing that a file says is run."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import joblib
import pytest
import torch

from isost.compat import biaxial_train, convert_pca, fine_inference, load_checkpoint, read_stack

if TYPE_CHECKING:
    from pathlib import Path


class Hostile:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_the_hostile_pickle_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_section_is_refused(
    tmp_path: Path, slides: Path, names: list[str], quick: dict[str, Any], *, legacy: bool
) -> None:
    path = slides / f"shuffled_{names[1]}.pt"
    torch.save(Hostile(tmp_path / "ran"), path, _use_new_zipfile_serialization=not legacy)
    words = rf"{path.name} is not loaded: .*could run any program"
    with pytest.raises(ValueError, match=words):
        read_stack(slides, names)
    with pytest.raises(ValueError, match=words):
        biaxial_train(tmp_path / "run", **quick)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()


def test_a_hostile_checkpoint_is_refused(tmp_path: Path, slides: Path, names: list[str], quick: dict[str, Any]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yml").write_bytes(quick["config_file"].read_bytes())
    torch.save({"f_joint": Hostile(tmp_path / "ran")}, tmp_path / "run" / "model.pt")
    for load in (
        lambda: load_checkpoint(tmp_path / "run"),
        lambda: fine_inference(tmp_path / "run", slides, names, result_dir=tmp_path / "result"),
    ):
        with pytest.raises(ValueError, match=r"model\.pt is not loaded: .*could run any program"):
            load()
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "result").exists()


def test_a_pickled_pca_is_not_opened_unless_trusted(tmp_path: Path, slides: Path, names: list[str]) -> None:
    joblib.dump(Hostile(tmp_path / "ran"), tmp_path / "pca.pkl")
    for load in (
        lambda: convert_pca(tmp_path / "pca.pkl"),
        lambda: convert_pca(str(tmp_path / "pca.pkl")),
        lambda: read_stack(slides, names, pca=tmp_path / "pca.pkl"),
    ):
        with pytest.raises(ValueError, match=r"pca\.pkl is a pickle.*trusted=True"):
            load()
    assert not (tmp_path / "ran").exists()
    # an .npz is read without pickles
    import numpy as np

    np.savez(tmp_path / "pca.npz", loadings=np.array([Hostile(tmp_path / "ran")], dtype=object))
    with pytest.raises(ValueError, match=r"pca\.npz holds no PCA"):
        convert_pca(tmp_path / "pca.npz")
    assert not (tmp_path / "ran").exists()
