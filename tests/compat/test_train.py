from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import isost
from isost.compat import biaxial_multi_group_train, biaxial_train
from isost.compat._modes import split_in_order

if TYPE_CHECKING:
    from collections.abc import Callable


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return {f"{key}.{name}": value for key in ("f_joint", "g_joint") for name, value in content[key].items()}


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def moved(a: Path, b: Path) -> set[str]:
    """Networks whose weights differ between two checkpoints, as the published program names them."""
    first, second = weights(a), weights(b)
    return {".".join(name.split(".")[:2]) for name, value in first.items() if not torch.equal(value, second[name])}


def test_the_files_are_those_of_the_published_program(tmp_path: Path, quick: dict[str, Any]) -> None:
    biaxial_train(tmp_path / "run", **quick)
    made = {path.name for path in (tmp_path / "run").iterdir()}
    # one checkpoint every 2 epochs of each phase, of 3, 2 and 2 epochs, numbered on
    numbered = {f"checkpoint_{i}.pt" for i in range(3)}
    assert made == {"config.yml", "model.pt", "resume.safetensors", "resume.json"} | numbered
    assert (tmp_path / "run" / "config.yml").read_bytes() == quick["config_file"].read_bytes()
    content = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert set(content) == {"f_joint", "g_joint", "iterations"}
    assert content["iterations"] == 2
    assert moved(tmp_path / "run" / "checkpoint_0.pt", tmp_path / "run" / "model.pt") == {
        "f_joint.p_coo",
        "f_joint.p_seq",
        "g_joint.p_coo",
        "g_joint.p_seq",
    }


@pytest.mark.data
def test_the_tensor_names_are_those_of_the_published_model(
    tmp_path: Path, data_dir: Path, quick: dict[str, Any]
) -> None:
    biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})
    published = torch.load(data_dir / "published" / "mouse_brain_model.pt", weights_only=True, map_location="cpu")
    ours = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert set(ours) == set(published)
    assert set(ours["f_joint"]) == set(published["f_joint"])
    assert type(ours["iterations"]) is type(published["iterations"])


@pytest.mark.parametrize(
    ("epoch", "phases"),
    [
        ([2], ["joint"]),
        ([1, 2], ["shape", "expression"]),
        ([1, 1, 1], ["shape", "expression", "joint"]),
        ([1, 1, 1, 1], ["joint", "shape", "expression", "joint"]),
    ],
)
def test_phases_by_the_number_of_epochs(
    tmp_path: Path, quick: dict[str, Any], epoch: list[int], phases: list[str]
) -> None:
    biaxial_train(tmp_path / "run", **quick | {"epoch": epoch})
    history = isost.compat.load_checkpoint(tmp_path / "run").history
    assert list(dict.fromkeys(history["phase"])) == list(dict.fromkeys(phases))
    assert len(history) == sum(epoch)


@pytest.mark.parametrize(
    ("mode", "trained", "phases"),
    [
        ("shape", {"p_coo"}, {"shape", "joint"}),
        ("coo", {"p_coo"}, {"shape", "joint"}),
        ("expression", {"p_seq"}, {"expression", "joint"}),
        ("seq", {"p_seq"}, {"expression", "joint"}),
    ],
)
def test_a_mode_trains_its_own_network_alone(
    tmp_path: Path, quick: dict[str, Any], mode: Any, trained: set[str], phases: set[str]
) -> None:
    biaxial_train(tmp_path / "run", **quick | {"mode": mode, "checkpoint_every": 1})
    changed = moved(tmp_path / "run" / "checkpoint_0.pt", tmp_path / "run" / "model.pt")
    assert {name.split(".")[1] for name in changed} == trained
    assert set(isost.compat.load_checkpoint(tmp_path / "run").history["phase"]) == phases


def test_the_shape_does_not_depend_on_the_expression_network(tmp_path: Path, quick: dict[str, Any]) -> None:
    """Mode "shape" gives the shape weights of a joint training that has no expression loss in its phase."""
    for name, mode in (("joint", "joint"), ("shape", "shape")):
        biaxial_train(tmp_path / name, **quick | {"mode": mode, "epoch": [2, 0]})
    a, b = (weights(tmp_path / name / "model.pt") for name in ("joint", "shape"))
    assert all(torch.equal(value, b[name]) for name, value in a.items() if "p_coo" in name)


def test_parts_are_made_in_file_order() -> None:
    assert split_in_order(11, 3) == [slice(0, 4), slice(4, 8), slice(8, 11)]
    assert split_in_order(10, 1) == [slice(0, 10)]


def test_one_direction_leaves_the_other_as_it_was(
    tmp_path: Path, quick: dict[str, Any], write_config: Callable[..., Path]
) -> None:
    config = write_config("forward.yml", dual=False)
    biaxial_train(tmp_path / "run", **quick | {"config_file": config, "checkpoint_every": 1})
    changed = moved(tmp_path / "run" / "checkpoint_0.pt", tmp_path / "run" / "model.pt")
    assert {name.split(".")[0] for name in changed} == {"f_joint"}
    assert isost.compat.load_checkpoint(tmp_path / "run").backward is None


@pytest.mark.parametrize("changed", [{"batch_num": 2}, {"stride": 2}])
def test_parts_and_strides_are_trained(
    tmp_path: Path, quick: dict[str, Any], write_config: Callable[..., Path], changed: dict[str, int]
) -> None:
    config = write_config("changed.yml", **{key: value for key, value in changed.items() if key == "stride"})
    rest = {key: value for key, value in changed.items() if key == "batch_num"}
    biaxial_train(tmp_path / "run", **quick | {"config_file": config} | rest)
    biaxial_train(tmp_path / "plain", **quick)
    assert not same(tmp_path / "run" / "model.pt", tmp_path / "plain" / "model.pt")
    iterations = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["iterations"]
    assert iterations == 2 * changed.get("batch_num", 1)


def test_all_groups_are_trained(tmp_path: Path, quick: dict[str, Any], names: list[str]) -> None:
    rest = {key: value for key, value in quick.items() if key != "slide_names"} | {"epoch": [1]}
    biaxial_multi_group_train(tmp_path / "one", grouped_slide_names=[names[:2]], **rest)
    biaxial_multi_group_train(tmp_path / "two", grouped_slide_names=[names[:2], names[1:]], batch_num=2, **rest)
    assert torch.load(tmp_path / "one" / "model.pt", weights_only=True)["iterations"] == 1
    assert torch.load(tmp_path / "two" / "model.pt", weights_only=True)["iterations"] == 4


def test_sections_may_run_downwards(tmp_path: Path, quick: dict[str, Any], names: list[str]) -> None:
    biaxial_train(tmp_path / "run", **quick | {"slide_names": names[::-1]})
    content = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    model = isost.compat.load_checkpoint(tmp_path / "run")
    ours = model.backward.state_dict() if model.backward is not None else {}
    assert torch.equal(ours["expression.down.0.bias"], content["f_joint"]["p_seq.net.down_convs.0.bias"])
    with pytest.raises(ValueError, match="opposite order"):
        isost.compat.fine_inference(tmp_path / "run", quick["data_dir"], names, result_dir=tmp_path / "result")


def test_the_log_has_a_line_every_so_often(
    tmp_path: Path, quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="isost"):
        biaxial_train(tmp_path / "run", **quick | {"epoch": [4], "backup_every": 2})
    assert next(line for line in caplog.messages if "joint, epoch" in line).startswith("joint, epoch 2 of 4: loss ")


def test_random_state_is_left_alone(tmp_path: Path, quick: dict[str, Any]) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


# Kills itself, as the system would, in the step before which it has made 20: in the second phase, between checkpoints.
SCRIPT = """
import itertools, json, os, signal, sys
from isost.compat import _modes, biaxial_train
steps, loss = itertools.count(), _modes.PublishedObjective.loss
def killed(self, *args, **kwargs):
    if next(steps) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, *args, **kwargs)
_modes.PublishedObjective.loss = killed
biaxial_train(**json.loads(sys.argv[1]))
"""


def test_a_killed_run_that_goes_on_ends_as_one_that_was_not(tmp_path: Path, quick: dict[str, Any]) -> None:
    kws = quick | {"epoch": [6, 6, 6], "batch_num": 2, "checkpoint_every": 4}
    biaxial_train(tmp_path / "whole", **kws)
    said = json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in kws.items()} | {"experiment_dir": "cut"})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(isost.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", SCRIPT, said], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "cut").glob("*.pt")} == {"checkpoint_0.pt", "checkpoint_1.pt"}
    biaxial_train(tmp_path / "cut", **kws)
    for name in ("checkpoint_0.pt", "checkpoint_1.pt", "checkpoint_2.pt", "model.pt"):
        assert same(tmp_path / "whole" / name, tmp_path / "cut" / name), name
    # once more: nothing is left to do, and nothing changes, also where the config was written in another layout
    config = tmp_path / "cut" / "config.yml"
    config.write_text(yaml.dump(yaml.safe_load(config.read_text()), sort_keys=True, default_flow_style=True))
    before = (tmp_path / "cut" / "model.pt").read_bytes()
    biaxial_train(tmp_path / "cut", **kws)
    assert (tmp_path / "cut" / "model.pt").read_bytes() == before


def test_an_interrupted_run_has_no_model_and_goes_on(
    tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from isost.compat._modes import PublishedObjective

    plain, calls = PublishedObjective.loss, iter(range(100))

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PublishedObjective, "loss", interrupted)
        biaxial_train(tmp_path / "run", **quick)
    assert "has no model.pt yet" in caplog.text
    assert not (tmp_path / "run" / "model.pt").exists()
    biaxial_train(tmp_path / "run", **quick)
    biaxial_train(tmp_path / "whole", **quick)
    assert same(tmp_path / "run" / "model.pt", tmp_path / "whole" / "model.pt")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epoch": [3, 2, 3]}, {"batch_num": 2}, {"mode": "shape"}])
def test_another_training_is_refused_and_nothing_is_overwritten(
    tmp_path: Path, quick: dict[str, Any], changed: dict[str, Any]
) -> None:
    biaxial_train(tmp_path / "run", **quick)
    before = snapshot(tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"model\.pt is of another training"):
        biaxial_train(tmp_path / "run", **quick | changed)
    with pytest.raises(FileExistsError, match="holds a training already"):
        biaxial_train(tmp_path / "run", **quick, resume=False)
    assert snapshot(tmp_path / "run") == before


def test_a_model_of_the_published_program_is_not_overwritten(tmp_path: Path, quick: dict[str, Any]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint_0.pt").write_bytes(b"theirs")
    with pytest.raises(FileExistsError, match=r"checkpoint_0\.pt is of another training"):
        biaxial_train(tmp_path / "run", **quick)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yml").write_text("trainer: IsoST")
    with pytest.raises(FileExistsError, match="says something else"):
        biaxial_train(tmp_path / "other", **quick)
    assert snapshot(tmp_path / "other") == {"config.yml": b"trainer: IsoST"}


def test_the_image_variant_says_what_is_missing(
    tmp_path: Path, quick: dict[str, Any], write_config: Callable[..., Path]
) -> None:
    config = write_config("image.yml", trainer="IsoSTImageReg", image_data_dir="images", scale_z=2)
    with pytest.raises(ValueError, match=r"image\.yml.*image_data_dir, slice_data_dir.*say trainer: IsoST"):
        biaxial_train(tmp_path / "run", **quick | {"config_file": config})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_num": 0}, "batch_num must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"epoch": [0, 0]}, "leaves nothing to train"),
        ({"epoch": [1, 0], "mode": "seq"}, "leaves nothing to train"),
        ({"epoch": [1] * 5}, "one to four"),
        ({"mode": "both"}, "mode is 'both'"),
        ({"batch_num": 30}, r"shuffled_.*\.pt has .* points, too few for batch_num=30"),
        ({"device": "cuda:0"}, "no GPU here: pass device='cpu'"),
    ],
)
def test_impossible_arguments_are_named(
    tmp_path: Path, quick: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    if changed.get("device") and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=words):
        biaxial_train(tmp_path / "run", **quick | changed)
    assert not (tmp_path / "run").exists()


def test_sections_out_of_order_are_named(tmp_path: Path, quick: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(ValueError, match="in the order of depth, up or down"):
        biaxial_train(tmp_path / "run", **quick | {"slide_names": [names[1], names[0], names[2]]})
    with pytest.raises(ValueError, match="two or more sections"):
        biaxial_train(tmp_path / "run", **quick | {"slide_names": names[:1]})
    rest = {key: value for key, value in quick.items() if key != "slide_names"}
    with pytest.raises(ValueError, match="same way in depth"):
        biaxial_multi_group_train(tmp_path / "run", grouped_slide_names=[names, names[::-1]], **rest)


def test_a_damaged_record_is_named(tmp_path: Path, quick: dict[str, Any]) -> None:
    biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})
    record = tmp_path / "run" / "resume.json"
    for content, words in (("{", "is damaged"), ("[]", "must hold one JSON object")):
        record.write_text(content)
        with pytest.raises(ValueError, match=rf"resume\.json {words}"):
            biaxial_train(tmp_path / "run", **quick | {"epoch": [1]})


def test_csvs_that_do_not_fit_the_config_stop_a_training(tmp_path: Path, slides: Path, quick: dict[str, Any]) -> None:
    scale = pd.read_csv(slides / "scale_dic.csv")
    scale.drop(columns="PC_4").to_csv(slides / "scale_dic.csv", index=False)
    with pytest.raises(ValueError, match=r"scale_dic\.csv has 3 components, and these sections have 4"):
        biaxial_train(tmp_path / "run", **quick)
    assert not (tmp_path / "run").exists()
