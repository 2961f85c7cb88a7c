from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from isost.compat import read_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# the published program's own, where a key is absent
DEFAULTS = {
    "delta_d": 0.2,
    "std_x": 1,
    "std_y": 1,
    "std_z": 1,
    "std_seq": 1,
    "stride": 3,
    "alpha": 0.1,
    "warm_up_rate": 0.01,
    "beta_start_value": 1,
    "beta_end_value": 0.001,
    "beta_start_iteration": 5000,
    "beta_n_iterations": 1000,
    "dual": True,
    "lr": 1e-4,
    "optimizer_name": "Adam",
    "weight_decay": 1e-8,
    "method": "euler",
    "head_num": 1,
    "K": 5,
}


def test_absent_keys_have_the_published_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("trainer: IsoST\nparams: {gene_dim: 50, hidden_dim: 64}")
    config = read_config(path)
    assert {key: getattr(config, key) for key in DEFAULTS} == DEFAULTS
    assert (config.gene_dim, config.hidden_dim) == (50, 64)


@pytest.mark.data
def test_the_published_config_is_read(data_dir: Path) -> None:
    config = read_config(data_dir / "published" / "mouse_brain_config.yml")
    settings = config.model_settings()
    assert (settings.delta_z, settings.sigma, settings.unet_depth, settings.planar) == (
        0.01,
        (0.01, 0.01, 0.1, 0.1),
        2,
        False,
    )
    # read and ignored, as published
    assert (config.K, settings.n_neighbors, settings.n_heads) == (8, 5, 1)
    assert config.trajectory_settings().beta_n_iterations == 50


def test_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("trainer: IsoST\nparams:\n  gene_dim: 5.0\n  hidden_dim: '8'\n  weight_decay: 1e-8\n  lr: 1e-3")
    config = read_config(path)
    assert (config.gene_dim, config.hidden_dim, config.weight_decay, config.lr) == (5, 8, 1e-8, 1e-3)
    assert isinstance(config.gene_dim, int)


def test_the_image_variant_keeps_its_template_keys(write_config: Callable[..., Path]) -> None:
    template = {"image_data_dir": "images", "scale_z": "0.5", "_lambda_1": 1}
    config = read_config(write_config(trainer="IsoSTImageReg", **template))
    assert config.template == template
    assert config.model_settings().unet_depth == 3


def test_unknown_keys_are_named_in_a_warning(write_config: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match=r"config\.yml has keys that mean nothing here: drop_out, gamma$"):
        read_config(write_config(gamma=1, drop_out=0.5))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gene_dim": 0}, "gene_dim must be positive, got 0"),
        ({"hidden_dim": 8.5}, "hidden_dim must be a whole number"),
        ({"delta_d": -0.1}, "delta_d must be positive"),
        ({"std_z": "wide"}, "std_z must be a number, got 'wide'"),
        ({"std_x": float("nan")}, "std_x must be a number that is not negative"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"alpha": [1]}, r"alpha must be a number, got \[1\]"),
        ({"dual": "maybe"}, "dual must be true or false"),
        ({"method": "milstein"}, "the one solver there is, is 'euler'"),
        ({"optimizer_name": "Nadam"}, "not in torch.optim"),
        ({"optimizer_name": "Optimizer"}, "not in torch.optim"),
    ],
)
def test_impossible_values_are_errors(write_config: Callable[..., Path], changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"config\.yml: .*{words}"):
        read_config(write_config(**changed))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainer: IsoST", "must hold `trainer` and `params`"),
        ("trainer: [", "is not YAML"),
        ("trainer: Other\nparams: {gene_dim: 1, hidden_dim: 1}", "trainer is 'Other'"),
        ("trainer: IsoST\nparams: {gene_dim: 1}", "lacks hidden_dim"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no config .*none\.yml"):
        read_config(tmp_path / "none.yml")
