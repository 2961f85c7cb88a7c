from __future__ import annotations

import dataclasses
import math
import reprlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from isost._untrusted import untrusted
from isost.model import ModelSettings
from isost.training import TrajectorySettings

if TYPE_CHECKING:
    import os

__all__ = ["Config", "load_yaml", "read_config"]

PLANAR_BELOW = 1e-4  # of std_z: the cells of a frame then keep one depth
N_NEIGHBORS = 5
_MOST_BYTES = 2**20
UNET_DEPTHS = {"IsoST": 2, "IsoSTImageReg": 3}

_TEMPLATE_KEYS = frozenset(
    {
        "slice_data_dir",
        "image_data_dir",
        "scale_z",
        "spacing",
        "slice_width",
        "template_sample_rate",
        "_lambda_1",
        "_lambda_2",
    }
)
_POSITIVE = frozenset(
    {"gene_dim", "hidden_dim", "delta_d", "stride", "warm_up_rate", "beta_start_value", "beta_end_value", "lr"}
    | {"head_num", "K"}
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a published `config.yml` says, with the published defaults for what it leaves out.

    Attributes
    ----------
    trainer
        ``"IsoST"``, or ``"IsoSTImageReg"`` whose graph U-Net is one level deeper.
    gene_dim, hidden_dim
        Components G and width H of both networks.
    delta_d
        Wanted length of a step in z.
    std_x, std_y, std_z, std_seq
        Noise of x, y, z and of every component, per root of z.
    stride, alpha, warm_up_rate, dual
        See `isost.training.TrajectorySettings`.
    beta_start_value, beta_end_value, beta_start_iteration, beta_n_iterations
        Of the factor on the loss, see `isost.training.BetaSchedule`.
    lr, optimizer_name, weight_decay
        Of the optimiser in `torch.optim`.
    method
        Of the solver; there is one, ``"euler"``.
    head_num, K
        Without effect, as in the published program: it has one attention head and 5 neighbours whatever they say.
    template
        Keys of the image-regularised variant, as they stand.
    """

    trainer: str = "IsoST"
    gene_dim: int
    hidden_dim: int
    delta_d: float = 0.2
    std_x: float = 1.0
    std_y: float = 1.0
    std_z: float = 1.0
    std_seq: float = 1.0
    stride: int = 3
    alpha: float = 0.1
    warm_up_rate: float = 0.01
    beta_start_value: float = 1.0
    beta_end_value: float = 0.001
    beta_start_iteration: int = 5000
    beta_n_iterations: int = 1000
    dual: bool = True
    lr: float = 1e-4
    optimizer_name: str = "Adam"
    weight_decay: float = 1e-8
    method: str = "euler"
    head_num: int = 1
    K: int = 5
    template: dict[str, Any] = field(default_factory=dict)

    @property
    def sigma(self) -> tuple[float, float, float, float]:
        """Noise of x, y, z and of every component."""
        return (self.std_x, self.std_y, self.std_z, self.std_seq)

    def model_settings(self, *, seed: int = 0) -> ModelSettings:
        """Make the settings of the model that this describes."""
        return ModelSettings(
            objective="trajectory",
            n_comps=self.gene_dim,
            hidden_dim=self.hidden_dim,
            unet_depth=UNET_DEPTHS[self.trainer],
            n_neighbors=N_NEIGHBORS,
            planar=self.std_z <= PLANAR_BELOW,
            dual=self.dual,
            delta_z=self.delta_d,
            sigma=self.sigma,
            seed=seed,
        )

    def trajectory_settings(self) -> TrajectorySettings:
        """Make the settings of the objective that this describes."""
        same = {f.name for f in dataclasses.fields(TrajectorySettings)} & {f.name for f in dataclasses.fields(self)}
        return TrajectorySettings(
            delta_z=self.delta_d, sigma=self.sigma, **{name: getattr(self, name) for name in sorted(same)}
        )


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a published `config.yml`.

    Parameters
    ----------
    path
        The file: `trainer`, and `params` with the keys of `Config`. Numbers that YAML takes for text, such as
        ``1e-8``, are read as numbers.

    Returns
    -------
    What it says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such config, lacks a key that has no default, or has a value that is impossible.

    Warns
    -----
    UserWarning
        If there are keys that mean nothing here; they are named.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no config {path}"
        raise FileNotFoundError(msg)
    with untrusted(path):
        return _config(path, load_yaml(path))


def load_yaml(path: Path) -> Any:
    """Read a small file of YAML without aliases, of which a few lines can stand for more than memory holds."""
    if path.stat().st_size > _MOST_BYTES:
        msg = f"{path} is larger than a config of {_MOST_BYTES:,} bytes can be"
        raise ValueError(msg)
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            msg = f"{path} has YAML aliases (*name); write out what they stand for"
            raise ValueError(msg)
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path} is not YAML: {error}"
        raise ValueError(msg) from error


def _config(path: Path, content: Any) -> Config:
    if not isinstance(content, dict) or not isinstance(content.get("params"), dict):
        msg = f"{path} must hold `trainer` and `params`, as the published configs do"
        raise ValueError(msg)
    trainer = content.get("trainer", "IsoST")
    if not isinstance(trainer, str) or trainer not in UNET_DEPTHS:
        msg = f"{path}: trainer is {reprlib.repr(trainer)}; it must be one of {sorted(UNET_DEPTHS)}"
        raise ValueError(msg)
    params = {str(key): value for key, value in content["params"].items()}
    kinds = {f.name: str(f.type) for f in dataclasses.fields(Config) if f.name not in {"trainer", "template"}}
    unknown = sorted({str(key) for key in content} - {"trainer", "params"}) + sorted(
        set(params) - set(kinds) - _TEMPLATE_KEYS
    )
    if unknown:
        warnings.warn(f"{path} has keys that mean nothing here: {', '.join(unknown)}", UserWarning, stacklevel=3)
    if lacking := [key for key in ("gene_dim", "hidden_dim") if key not in params]:
        msg = f"{path} lacks {' and '.join(lacking)} under params; there is no default"
        raise ValueError(msg)
    try:
        values = {key: _parsed(key, params[key], kind) for key, kind in kinds.items() if key in params}
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    return Config(
        trainer=trainer,
        **values,
        template={key: value for key, value in params.items() if key in _TEMPLATE_KEYS},
    )


def _parsed(key: str, value: Any, kind: str) -> Any:
    if kind == "bool":
        if not isinstance(value, bool):
            msg = f"{key} must be true or false, got {reprlib.repr(value)}"
            raise ValueError(msg)
        return value
    if kind == "str":
        return _named(key, value)
    return _number(key, value, whole=kind == "int")


def _named(key: str, value: Any) -> str:
    if key == "method":
        if value != "euler":
            msg = f"method is {reprlib.repr(value)}, but the one solver there is, is 'euler'"
            raise ValueError(msg)
    elif not isinstance(kind := getattr(torch.optim, str(value), None), type) or not (
        issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    ):
        msg = f"{key} is {reprlib.repr(value)}, which is not in torch.optim; choose one such as NAdam or Adam"
        raise ValueError(msg)
    return str(value)


def _number(key: str, value: Any, *, whole: bool) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{key} must be a number, got {reprlib.repr(value)}"
        raise ValueError(msg) from error
    if not math.isfinite(number) or number < 0 or (number == 0 and key in _POSITIVE):
        kind = "positive" if key in _POSITIVE else "a number that is not negative"
        msg = f"{key} must be {kind}, got {reprlib.repr(value)}"
        raise ValueError(msg)
    if whole and number != int(number):
        msg = f"{key} must be a whole number, got {reprlib.repr(value)}"
        raise ValueError(msg)
    return int(number) if whole else number
