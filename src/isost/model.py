"""What a trained model is: two drifts, the normalisation they live in, and how to save and load them."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ._normalization import Normalization
from ._untrusted import untrusted
from ._writing import whole_file
from .nn import Drift

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["IsoST", "ModelSettings"]

_WEIGHTS, _NUMBERS = "weights.safetensors", "model.json"
_COMPONENTS = "components"
_LEAST = {"seed": 0, "delta_z": 1e-6}
_MOST = {"seed": 2**63, "unet_depth": 32}
_COMPONENT_ARRAYS = ("loadings", "component_variance", "cell_variance")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Hyper-parameters of a model, and what was chosen from the sections it was fitted to.

    Attributes
    ----------
    objective
        What the drifts were trained on.
    n_comps
        Principal components G.
    hidden_dim, n_heads, unet_depth, n_neighbors
        Of both networks, see `isost.nn.Drift`.
    planar
        Whether all cells of a frame keep one depth.
    dual
        Whether there is a backward drift too.
    delta_z
        Wanted length of a step, state units: the median gap is 0.1.
    sigma
        Noise of x, y, z and of every component, state units per root of z.
    n_cells
        Cells that the expected expression is smoothed over.
    adaptive
        Whether only those of them with like surroundings count.
    expression_shift
        How far a cell's expression follows its surroundings, β in [0, 1].
    mean_shift
        How far expected expression moves with the tissue between sections, α in [0, 1].
    gap_variance
        Variance that arises between two sections, as a factor of what their difference suggests; see
        `isost.generation.Expectation`.
    seed
        Seed that the model was fitted with.
    """

    objective: Literal["bridge", "trajectory"] = "bridge"
    n_comps: int
    hidden_dim: int = 128
    n_heads: int = 1
    unet_depth: int = 2
    n_neighbors: int = 5
    planar: bool = True
    dual: bool = True
    delta_z: float = 0.02
    sigma: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    n_cells: int = 30
    adaptive: bool = False
    expression_shift: float = 0.0
    mean_shift: float = 0.0
    gap_variance: float = 1.0
    seed: int = 0

    def drift(self) -> Drift:
        """Fresh networks of one direction, with weights drawn from torch's global generator."""
        return Drift(
            self.n_comps,
            hidden_dim=self.hidden_dim,
            n_heads=self.n_heads,
            unet_depth=self.unet_depth,
            n_neighbors=self.n_neighbors,
            planar=self.planar,
        )


class IsoST:
    """A trained model: the drifts of both directions and the normalisation of the sections they were fitted to.

    Made by :func:`isost.tl.fit`; used by :func:`isost.tl.reconstruct` and :func:`isost.tl.section`.

    Attributes
    ----------
    settings
        Hyper-parameters.
    forward, backward
        Drifts du/dz that carry a section's cells up and down; `backward` is None when not `settings.dual`.
    normalization
        Between input units and the state.
    genes
        Names of the genes, in the order of the stack.
    loadings
        Components that expected expression is estimated in and decoded from, (genes, C) float32: the G principal
        components of the stack, then those of what else is spatial.
    component_variance
        Variance of each component over all cells, (C,).
    cell_variance
        Variance of a cell's components about their expectation, (C,).
    history
        One row an epoch: epoch, phase, loss and its parts.
    provenance
        What made it: versions, platform, settings and all parameters, of the fit and of the stack. Empty for a model
        that was not fitted by isost.
    """

    def __init__(
        self,
        settings: ModelSettings,
        forward: Drift,
        backward: Drift | None,
        *,
        normalization: Normalization,
        genes: Sequence[str],
        loadings: NDArray[np.floating],
        component_variance: NDArray[np.floating],
        cell_variance: NDArray[np.floating],
        history: pd.DataFrame | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.forward = forward
        self.backward = backward
        self.normalization = normalization
        self.genes = list(genes)
        self.loadings = np.asarray(loadings, dtype=np.float32)
        self.component_variance = np.asarray(component_variance, dtype=np.float64)
        self.cell_variance = np.asarray(cell_variance, dtype=np.float64)
        self.history = pd.DataFrame() if history is None else history
        self.provenance = provenance or {}

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"IsoST(objective={s.objective!r}, n_comps={s.n_comps}, hidden_dim={s.hidden_dim}, "
            f"{len(self.genes)} genes, {len(self.history)} epochs)"
        )

    @property
    def drifts(self) -> dict[str, Drift]:
        """The drifts by direction."""
        return {"forward": self.forward} | ({} if self.backward is None else {"backward": self.backward})

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.forward.parameters()).device

    def to(self, device: str | torch.device) -> IsoST:
        """Return the same model with its networks on another device; this one keeps them where they are."""
        moved = copy.copy(self)
        moved.forward = copy.deepcopy(self.forward).to(device)
        moved.backward = None if self.backward is None else copy.deepcopy(self.backward).to(device)
        return moved

    @property
    def sigma(self) -> torch.Tensor | None:
        """Noise of each dimension (3 + G,), or None when there is none."""
        *space, expression = self.settings.sigma
        if not any(self.settings.sigma):
            return None
        return torch.tensor([*space, *[expression] * self.settings.n_comps])

    def drift(self, points: ArrayLike, direction: Literal["forward", "backward"] = "forward") -> NDArray[np.float32]:
        """Drift du/dz at some points, without noise.

        Parameters
        ----------
        points
            States (N, 3 + G): normalised positions and components, all at one depth or nearly so; their neighbours
            among each other make the graph.
        direction
            ``"forward"``, the drift that carries a section up, or ``"backward"``. Both are derivatives by increasing z.

        Returns
        -------
        Drift (N, 3 + G), state units per state unit of z.

        Raises
        ------
        ValueError
            If there is no such direction, the points are not (N, 3 + G) finite numbers, or are too few to have
            neighbours.
        """
        if direction not in self.drifts:
            msg = f"this model has no direction {direction!r}; it has {list(self.drifts)}"
            raise ValueError(msg)
        state = np.asarray(points, dtype=np.float32)
        if not np.isfinite(state).all():
            msg = "points must be finite numbers, in the normalised units of the model"
            raise ValueError(msg)
        drift = self.drifts[direction]
        with torch.inference_mode():
            found = drift(torch.as_tensor(state, device=self.device))
        return np.asarray(found.cpu().numpy())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a folder: weights as safetensors, everything else as JSON.

        The folder is made when missing. A model that was there is replaced once the new one is written; the JSON is
        put there last, so that a folder that holds one holds a whole model.

        Parameters
        ----------
        path
            The folder.

        Raises
        ------
        OSError
            If the disk is full; the model that was there is then kept.
        """
        folder = Path(path)
        tensors = {
            f"{direction}.{name}": value.detach().cpu().contiguous()
            for direction, drift in self.drifts.items()
            for name, value in drift.state_dict().items()
        }
        tensors |= {
            f"{_COMPONENTS}.{name}": torch.as_tensor(getattr(self, name)).contiguous() for name in _COMPONENT_ARRAYS
        }
        numbers = {
            "isost": version("isost"),
            "settings": asdict(self.settings),
            "normalization": {key: value.tolist() for key, value in self.normalization.to_dict().items()},
            "genes": self.genes,
            "history": self.history.to_dict(orient="list"),
            "provenance": self.provenance,
        }
        with whole_file(folder / _NUMBERS) as json_file, whole_file(folder / _WEIGHTS) as weights_file:
            save_file(tensors, weights_file)
            json_file.write_text(json.dumps(numbers, default=_plain), encoding="utf-8")
            # never the old one beside new weights: these are renamed first
            (folder / _NUMBERS).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> IsoST:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path
            The folder.
        device
            Where the networks go.

        Raises
        ------
        FileNotFoundError
            If the folder holds no whole model.
        ValueError
            If its files do not belong to a model of this version.
        """
        folder = Path(path)
        for name in (_NUMBERS, _WEIGHTS):
            if not (folder / name).is_file():
                msg = f"{folder} holds no model: {name} is missing; a model is a folder written by IsoST.save"
                raise FileNotFoundError(msg)
        with untrusted(folder):
            return cls._loaded(folder, device)

    @classmethod
    def _loaded(cls, folder: Path, device: str | torch.device) -> IsoST:
        numbers = _read_numbers(folder)
        settings = _settings(numbers, folder)
        try:
            tensors = load_file(folder / _WEIGHTS, device=str(device))
        except SafetensorError as error:
            msg = f"{folder / _WEIGHTS} is damaged ({error}); write the model again by IsoST.save"
            raise ValueError(msg) from error
        if lacking := [name for name in _COMPONENT_ARRAYS if f"{_COMPONENTS}.{name}" not in tensors]:
            msg = f"{folder / _WEIGHTS} lacks {lacking}; write the model again by IsoST.save"
            raise ValueError(msg)
        drifts: dict[str, Drift] = {}
        for direction in ("forward", "backward") if settings.dual else ("forward",):
            with torch.device("meta"):
                drifts[direction] = settings.drift()
            prefix = f"{direction}."
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            try:
                drifts[direction].load_state_dict(own, assign=True)
            except RuntimeError as error:
                msg = f"{folder / _WEIGHTS} does not fit the settings in {_NUMBERS}: {error}"
                raise ValueError(msg) from error
            drifts[direction].eval()
        model = cls(
            settings,
            drifts["forward"],
            drifts.get("backward"),
            normalization=Normalization.from_dict(numbers["normalization"]),
            genes=numbers["genes"],
            **{name: tensors[f"{_COMPONENTS}.{name}"].cpu().numpy() for name in _COMPONENT_ARRAYS},
            history=pd.DataFrame(numbers["history"]),
            provenance=numbers.get("provenance"),
        )
        if not (_fits(model) and all(bool(tensor.isfinite().all()) for tensor in tensors.values())):
            msg = f"the parts of the model in {folder} do not fit each other, or are not finite; write it again"
            raise ValueError(msg)
        return model


def _fits(model: IsoST) -> bool:
    """Whether the parts of a model that was read have shapes that belong together."""
    n_dims, n_mean_comps = 3 + model.settings.n_comps, model.component_variance.shape
    bounds = (model.normalization.minimum, model.normalization.scale)
    return bool(
        all(bound.shape == (n_dims,) and np.isfinite(bound).all() for bound in bounds)
        and (model.normalization.scale > 0).all()
        and all(isinstance(gene, str) for gene in model.genes)
        and (not model.genes or model.loadings.shape == (len(model.genes), *n_mean_comps))
        and model.cell_variance.shape == n_mean_comps
        and isinstance(model.provenance, dict)
    )


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy, as JSON can hold them."""
    return value.tolist()


def _read_numbers(folder: Path) -> dict[str, Any]:
    try:
        numbers: dict[str, Any] = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        missing = {"settings", "normalization", "genes", "history"} - set(numbers)
    except (ValueError, TypeError) as error:
        msg = f"{folder / _NUMBERS} is damaged ({error}); write the model again by IsoST.save"
        raise ValueError(msg) from error
    if missing:
        msg = f"{folder / _NUMBERS} lacks {sorted(missing)}; write the model again by IsoST.save"
        raise ValueError(msg)
    return numbers


def _settings(numbers: dict[str, Any], folder: Path) -> ModelSettings:
    known = {f.name for f in fields(ModelSettings)}
    given = dict(numbers["settings"])
    if "n_comps" not in given or not set(given) <= known:
        msg = (
            f"{folder / _NUMBERS} was written by isost {numbers.get('isost', 'of an unknown version')} and has "
            f"settings that this version does not know: {sorted(set(given) - known) or 'none at all'}"
        )
        raise ValueError(msg)
    if "sigma" in given:
        given["sigma"] = tuple(given["sigma"])
    wrong = [f.name for f in fields(ModelSettings) if f.name in given and not _is_sound(f.name, f.type, given[f.name])]
    if wrong:
        msg = f"{folder / _NUMBERS} has impossible settings: {', '.join(wrong)}; write the model again by IsoST.save"
        raise ValueError(msg)
    return ModelSettings(**given)


def _is_sound(name: str, kind: Any, value: Any) -> bool:
    """Whether a setting that was read is one that some model can have, and no machine would break on."""
    if kind == "int":
        return type(value) is int and _LEAST.get(name, 1) <= value <= _MOST.get(name, 2**20)
    if kind == "float":
        return type(value) in (int, float) and math.isfinite(value) and value >= _LEAST.get(name, 0)
    if name == "sigma":
        return len(value) == 4 and all(_is_sound("", "float", one) for one in value)
    return isinstance(value, bool) if kind == "bool" else value in ("bridge", "trajectory")
