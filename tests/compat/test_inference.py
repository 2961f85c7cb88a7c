from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isost.compat import biaxial_train, fine_inference, load_checkpoint
from isost.compat._inference import frame_paths
from isost.compat._modes import split_in_order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEPTHS = {"a_log_PC": 0.1, "b_log_PC": 0.25, "c_log_PC": 0.4, "d_log_PC": 0.42}
NAMES = list(DEPTHS)
SILENT = {"std_x": 0, "std_y": 0, "std_z": 0.001, "std_seq": 0}  # z is no longer free below


@pytest.fixture
def folder(published_folder: Callable[..., Path]) -> Path:
    return published_folder(DEPTHS)


@pytest.fixture
def experiment(tmp_path: Path, folder: Path, write_config: Callable[..., Path]) -> Callable[..., Path]:
    """A model briefly trained on the folder, with some keys of its config changed."""

    def train(name: str = "run", **changed: Any) -> Path:
        config = write_config(f"{name}.yml", **changed)
        biaxial_train(tmp_path / name, folder, NAMES, config_file=config, epoch=[1], checkpoint_every=9, progress=False)
        return tmp_path / name

    return train


def load(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def section(folder: Path, name: str) -> Tensor:
    return torch.load(folder / f"{name}.pt", weights_only=True)


def test_frames_are_numbered_over_the_stack(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    paths = fine_inference(experiment(), folder, NAMES, "joint", 0.05, tmp_path / "result", 1, "cpu", progress=False)
    # gaps of 0.15, 0.15 and 0.02 in steps of 0.05: n = 3, 3 and 0
    assert [path.name for path in paths] == [f"{i}_forward.npy" for i in range(8)]
    assert frame_paths(tmp_path / "result") == paths
    for number, name in {0: "a_log_PC", 3: "b_log_PC", 6: "c_log_PC", 7: "d_log_PC"}.items():
        np.testing.assert_array_equal(load(paths[number]), section(folder, name).numpy())
    for number in (1, 2, 4, 5):
        assert load(paths[number]).shape == (80, 7)
        assert load(paths[number]).dtype == np.float32


@pytest.mark.parametrize("batch_num", [1, 3])
@pytest.mark.parametrize("downwards", [False, True])
def test_frames_are_those_of_a_plain_loop(
    tmp_path: Path, folder: Path, write_config: Callable[..., Path], *, batch_num: int, downwards: bool
) -> None:
    """Each part walks n equal steps by itself, forward by f from its section, back by g from the next one."""
    names = NAMES[:3][::-1] if downwards else NAMES[:3]
    config = write_config("silent.yml", std_x=0, std_y=0, std_z=0, std_seq=0)
    run = tmp_path / "run"
    biaxial_train(run, folder, names, config_file=config, epoch=[1], checkpoint_every=9, progress=False)
    model = load_checkpoint(run)
    f, g = ("backward", "forward") if downwards else ("forward", "backward")
    paths = fine_inference(
        run, folder, names, defined_d=0.04, result_dir=tmp_path / "result", batch_num=batch_num, progress=False
    )
    assert len(paths) == 9  # n = round(0.15 / 0.04) = 4 in both gaps

    def walked(name: str, direction: Any, step: float, n_steps: int) -> np.ndarray:
        state, parts = section(folder, name).numpy(), []
        for rows in split_in_order(len(state), batch_num):
            part = state[rows]
            for _ in range(n_steps):
                part = part + model.drift(part, direction) * np.float32(step)
            parts.append(part)
        return np.concatenate(parts)

    for gap in range(2):
        h = (DEPTHS[names[gap + 1]] - DEPTHS[names[gap]]) / 4
        for i in (1, 2, 3):
            expected = [walked(names[gap], f, h, i), walked(names[gap + 1], g, -h, 4 - i)]
            frame = load(paths[4 * gap + i])
            np.testing.assert_allclose(frame, np.concatenate(expected), rtol=0, atol=2e-5)
            # std_z = 0 keeps a frame at one depth
            np.testing.assert_allclose(frame[:, 2], DEPTHS[names[gap]] + i * h, atol=1e-6)


def test_one_direction_gives_one_section_a_frame(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    paths = fine_inference(experiment(dual=False), folder, NAMES, result_dir=tmp_path / "result", progress=False)
    assert [len(load(path)) for path in paths] == [40] * 8


@pytest.mark.parametrize(
    ("mode", "moves", "stays"),
    [("shape", slice(0, 3), slice(3, 7)), ("seq", slice(3, 7), slice(0, 3))],
)
def test_a_mode_holds_the_other_drift(
    tmp_path: Path, folder: Path, experiment: Callable[..., Path], mode: Any, moves: slice, stays: slice
) -> None:
    run = experiment(**SILENT)
    paths = fine_inference(run, folder, NAMES[:2], mode, result_dir=tmp_path / "result", progress=False)
    start, frame = section(folder, NAMES[0]).numpy(), load(paths[1])[:40]
    assert not np.allclose(frame[:, moves], start[:, moves], atol=1e-4)
    np.testing.assert_allclose(frame[:, stays], start[:, stays], atol=2e-3)


def test_the_noise_is_fixed_by_the_seed(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    run = experiment()
    first, again, other = (
        fine_inference(run, folder, NAMES, result_dir=tmp_path / name, seed=seed, progress=False)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, again, strict=True))
    assert not np.array_equal(load(first[1]), load(other[1]))


def test_an_inference_that_stopped_goes_on(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    run = experiment()
    paths = fine_inference(run, folder, NAMES, result_dir=tmp_path / "result", progress=False)
    before = [path.read_bytes() for path in paths]
    for path in paths[3:5]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the frame 3_forward\.npy, of 8"):
        frame_paths(tmp_path / "result")
    paths[0].touch()
    stamp = paths[0].stat().st_mtime_ns
    fine_inference(run, folder, NAMES, result_dir=tmp_path / "result", progress=False)
    assert [path.read_bytes() for path in paths] == before
    assert paths[0].stat().st_mtime_ns == stamp


def test_frames_of_another_inference_are_kept(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    run = experiment()
    paths = fine_inference(run, folder, NAMES, result_dir=tmp_path / "result", progress=False)
    before = [path.read_bytes() for path in paths]
    for changed in ({"seed": 1}, {"defined_d": 0.04}, {"mode": "shape"}, {"batch_num": 2}):
        with pytest.raises(FileExistsError, match=r"0_forward\.npy is of another inference"):
            fine_inference(run, folder, NAMES, result_dir=tmp_path / "result", **changed)
    with pytest.raises(FileExistsError, match="holds frames already"):
        fine_inference(run, folder, NAMES, result_dir=tmp_path / "result", resume=False)
    assert [path.read_bytes() for path in paths] == before
    (tmp_path / "theirs").mkdir()
    np.save(tmp_path / "theirs" / "0_forward.npy", np.zeros((3, 7)))
    with pytest.raises(FileExistsError, match="or not made here"):
        fine_inference(run, folder, NAMES, result_dir=tmp_path / "theirs")


def test_a_frame_that_a_kill_left_unfinished_is_none(
    tmp_path: Path, folder: Path, experiment: Callable[..., Path]
) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / f".{32 * 'a'}-0_forward.npy").touch()
    assert fine_inference(experiment(), folder, NAMES, result_dir=tmp_path / "result", resume=False, progress=False)


def test_what_does_not_fit_is_refused(tmp_path: Path, folder: Path, experiment: Callable[..., Path]) -> None:
    run, out = experiment(), tmp_path / "result"
    with pytest.raises(FileNotFoundError, match=r"'e' has no file .*neither shuffled_e\.pt nor e\.pt"):
        fine_inference(run, folder, [*NAMES, "e"], result_dir=out)
    with pytest.raises(ValueError, match="defined_d must be positive"):
        fine_inference(run, folder, NAMES, defined_d=0.0, result_dir=out)
    with pytest.raises(ValueError, match="mode is 'both'"):
        fine_inference(run, folder, NAMES, "both", result_dir=out)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"there is no file .*model\.pt"):
        fine_inference(tmp_path / "nothing", folder, NAMES, result_dir=out)
    with pytest.raises(FileNotFoundError, match="holds no frames"):
        frame_paths(tmp_path)
    (folder / "scale_dic.csv").write_text((folder / "scale_dic.csv").read_text().replace("2.5", "3.5"))
    with pytest.raises(ValueError, match=r"min_dic\.csv and scale_dic\.csv in .* are not those of the sections that"):
        fine_inference(run, folder, NAMES, result_dir=out)
    torch.save(torch.rand(40, 6), folder / "b_log_PC.pt")
    with pytest.raises(ValueError, match=r"b_log_PC\.pt has 3 components, but the model has gene_dim 4"):
        fine_inference(run, folder, NAMES, result_dir=out)
    assert not out.exists()
