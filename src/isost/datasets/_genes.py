from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from scipy.special import log_softmax

from ._tissue import CELL_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._shape import Floats

__all__ = ["GeneGroup", "Programme", "gene_programme"]

Kind: TypeAlias = Literal["marker", "gradient", "stripe", "patch", "housekeeping", "sparse"]

# Share of the genes that each kind gets.
_SHARES: dict[Kind, float] = {
    "marker": 0.42,
    "gradient": 0.18,
    "stripe": 0.08,
    "patch": 0.08,
    "housekeeping": 0.12,
    "sparse": 0.12,
}
_AXES = ("ML", "DV", "AP")  # mediolateral x, dorsoventral y, anteroposterior z


class Field(Protocol):
    """A function of the place for each of g genes."""

    def __call__(self, body: Floats) -> Floats:
        """Give (n, g) values at body coordinates (n, 3)."""
        ...


@dataclass(frozen=True)
class Flat:
    """0 everywhere."""

    n_genes: int

    def __call__(self, body: Floats) -> Floats:
        return np.zeros((len(body), self.n_genes))


@dataclass(frozen=True)
class Ramp:
    """From -1 to 1 along a direction; steeper for a longer one."""

    direction: Floats  # (3, g)
    offset: Floats  # (g,)

    def __call__(self, body: Floats) -> Floats:
        values: Floats = np.tanh(body @ self.direction - self.offset)
        return values


@dataclass(frozen=True)
class Stripes:
    """Plane waves between -1 and 1."""

    wave_vector: Floats  # (3, g)
    phase: Floats  # (g,)

    def __call__(self, body: Floats) -> Floats:
        values: Floats = np.cos(body @ self.wave_vector - self.phase)
        return values


@dataclass(frozen=True)
class Bump:
    """Gaussian bumps of height 1."""

    centre: Floats  # (3, g)
    width: Floats  # (g,)

    def __call__(self, body: Floats) -> Floats:
        squares = ((body[:, :, None] - self.centre) ** 2).sum(axis=1)
        values: Floats = np.exp(-squares / (2 * self.width**2))
        return values


@dataclass(frozen=True)
class GeneGroup:
    """Genes of one kind; their log rate is base + marker of the cell's type + amplitude · field of the place.

    Attributes
    ----------
    kind
        What the genes are.
    names
        Their g names.
    base
        Log rate before all else, (g,).
    marker
        Gain in each cell type, (types, g).
    amplitude
        Of the field, (g,).
    field
        Function of the place.
    """

    kind: Kind
    names: tuple[str, ...]
    base: Floats
    marker: Floats
    amplitude: Floats
    field: Field

    def place_effect(self, body: Floats) -> Floats:
        """Compute what a place adds to the log rates, (n, g), at body coordinates (n, 3)."""
        return self.amplitude * self.field(body)


@dataclass(frozen=True)
class Programme:
    """Which gene is expressed where and in which type."""

    groups: tuple[GeneGroup, ...]

    @property
    def names(self) -> list[str]:
        """Names of all genes."""
        return [name for group in self.groups for name in group.names]

    @property
    def kinds(self) -> list[str]:
        """Kind of each gene."""
        return [group.kind for group in self.groups for _ in group.names]

    def place_effect(self, body: Floats) -> Floats:
        """Compute what each place adds to each log rate, (n, genes)."""
        return np.hstack([group.place_effect(body) for group in self.groups])

    def log_shares(self, place_effect: Floats, cell_type: int | NDArray[np.int64]) -> Floats:
        """Log of each gene's share of a cell's counts, (n, genes): one type for all, or one for each (n,)."""
        base = np.concatenate([group.base for group in self.groups])
        marker = np.hstack([group.marker for group in self.groups])
        shares: Floats = log_softmax(base + marker[cell_type] + place_effect, axis=1)
        return shares


def gene_programme(n_genes: int, *, rng: np.random.Generator) -> Programme:
    """Draw a programme of n_genes genes, of all kinds."""
    makers = {
        "marker": _markers,
        "gradient": _gradients,
        "stripe": _stripes,
        "patch": _patches,
        "housekeeping": _housekeeping,
        "sparse": _sparse,
    }
    ends = np.rint(np.cumsum(list(_SHARES.values())) / sum(_SHARES.values()) * n_genes).astype(int)
    sizes = np.diff(ends, prepend=0)
    return Programme(tuple(makers[kind](rng, int(size)) for kind, size in zip(_SHARES, sizes, strict=True)))


def _numbered(labels: list[str]) -> tuple[str, ...]:
    # the k-th of a label is label-k
    seen: Counter[str] = Counter()
    names = []
    for label in labels:
        seen[label] += 1
        names.append(f"{label}-{seen[label]}")
    return tuple(names)


def _directions(rng: np.random.Generator, g: int) -> Floats:
    vectors = rng.normal(size=(3, g))
    unit: Floats = vectors / np.linalg.norm(vectors, axis=0)
    return unit


def _uneven_types(rng: np.random.Generator, g: int) -> Floats:
    # hardly any gene is quite the same in all types
    return rng.normal(0, 0.15, size=(len(CELL_TYPES), g))


def _markers(rng: np.random.Generator, g: int) -> GeneGroup:
    own = np.sort(np.arange(g) % len(CELL_TYPES))
    marker = _uneven_types(rng, g)
    # Few markers are exclusive: some are shared with a neighbouring type.
    shared = np.flatnonzero(rng.random(g) < 0.3)
    marker[(own[shared] + 1) % len(CELL_TYPES), shared] += rng.uniform(0.8, 1.8, len(shared))
    marker[own, np.arange(g)] += rng.uniform(2.2, 4.0, g)
    return GeneGroup(
        "marker",
        _numbered([CELL_TYPES[k] for k in own]),
        base=rng.normal(-1.7, 0.6, g),
        marker=marker,
        amplitude=rng.uniform(0.0, 0.7, g),
        field=Ramp(1.5 * _directions(rng, g), rng.uniform(-0.5, 0.5, g)),
    )


def _gradients(rng: np.random.Generator, g: int) -> GeneGroup:
    axis = np.sort(np.arange(g) % len(_AXES))
    direction = 0.25 * _directions(rng, g)
    direction[axis, np.arange(g)] += rng.choice([-1, 1], g) * rng.uniform(0.8, 2.0, g)
    return GeneGroup(
        "gradient",
        _numbered([f"Grad-{_AXES[k]}" for k in axis]),
        base=rng.normal(0.4, 0.5, g),
        marker=_uneven_types(rng, g),
        amplitude=rng.uniform(0.8, 1.6, g),
        field=Ramp(direction, rng.uniform(-0.5, 0.5, g)),
    )


def _stripes(rng: np.random.Generator, g: int) -> GeneGroup:
    wave_vector = 0.5 * rng.normal(size=(3, g))
    wave_vector[2] = 2 * np.pi / rng.uniform(0.9, 1.8, g)  # one or two stripes: the sections span 2 along AP
    return GeneGroup(
        "stripe",
        _numbered(["Stripe-AP"] * g),
        base=rng.normal(0.0, 0.4, g),
        marker=_uneven_types(rng, g),
        amplitude=rng.uniform(0.7, 1.3, g),
        field=Stripes(wave_vector, rng.uniform(0, 2 * np.pi, g)),
    )


def _patches(rng: np.random.Generator, g: int) -> GeneGroup:
    angle, reach = rng.uniform(0, 2 * np.pi, g), rng.uniform(0.5, 0.8, g)
    centre = np.stack([reach * np.cos(angle), reach * np.sin(angle), rng.uniform(-0.8, 0.8, g)])
    return GeneGroup(
        "patch",
        _numbered(["Patch"] * g),
        base=rng.normal(-1.2, 0.4, g),
        marker=_uneven_types(rng, g),
        amplitude=rng.uniform(2.0, 3.2, g),
        field=Bump(centre, rng.uniform(0.25, 0.45, g)),
    )


def _housekeeping(rng: np.random.Generator, g: int) -> GeneGroup:
    return _flat("housekeeping", "House", rng.normal(1.3, 0.4, g))


def _sparse(rng: np.random.Generator, g: int) -> GeneGroup:
    return _flat("sparse", "Sparse", rng.normal(-2.6, 0.5, g))


def _flat(kind: Kind, label: str, base: Floats) -> GeneGroup:
    g = len(base)
    return GeneGroup(kind, _numbered([label] * g), base, np.zeros((len(CELL_TYPES), g)), np.zeros(g), Flat(g))
