from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from isost._nearest import nearest_points

from ._sinkhorn import debiased_displacements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from isost.field import LocalLinear

__all__ = ["Displacements", "Paths", "path_width", "section_displacements", "section_paths"]

_BLUR = 0.05  # of the larger width: outlines are matched, not single cells
_REACH = 0.1  # beyond it tissue appears or ends rather than moves
_SMOOTHED_OVER = 15  # cells over which a displacement is averaged
_LANDED_OVER = 5  # cells of the other section that give the velocity with which a cell arrives
_NODES = 5  # depths of a gap at which the expected expression is evaluated


@dataclass(frozen=True)
class Displacements:
    """Where each section's cells lie, by position alone, in the section above and in the one below.

    Attributes
    ----------
    up
        Displacement of section k's cells across gap k: K − 1 arrays (n_k, 2), state units.
    down
        Displacement of section k + 1's cells back across gap k: K − 1 arrays (n_{k+1}, 2).
    """

    up: list[NDArray[np.float64]]
    down: list[NDArray[np.float64]]


def section_displacements(positions: Sequence[NDArray[np.floating]]) -> Displacements:
    """Displacement of every section's cells onto its neighbours, smoothed in the plane.

    The debiased entropic map of unbalanced optimal transport between the positions of two sections, averaged over the
    nearest cells: outlines and cavities move, tissue that only one of the two has stays where it is.

    Parameters
    ----------
    positions
        Cells of each section (n_k, 2), state units, sections in order of depth.

    Returns
    -------
    Displacements across all K − 1 gaps, in both directions.

    Raises
    ------
    ValueError
        If a section has no cells.
    """
    up, down = [], []
    for lower, upper in pairwise(positions):
        raw = debiased_displacements(_float32(lower), _float32(upper), blur=_BLUR, reach=_REACH)
        up.append(_smoothed(lower, raw[0].numpy()))
        down.append(_smoothed(upper, raw[1].numpy()))
    return Displacements(up, down)


def _smoothed(positions: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    around = nearest_points(cKDTree(positions), positions, _SMOOTHED_OVER)[1]
    mean: NDArray[np.float64] = values.astype(np.float64)[around].mean(1)
    return mean


@dataclass(frozen=True)
class Paths:
    """The paths that one direction's drift is to follow: every cell of a section on its way across one gap.

    A block is what one graph spans: cells of one section, all or a part of them, on their way across one gap. Its cells
    lie one after another. Fractions τ run from 0 at the cell's own section to 1 at the other.

    Attributes
    ----------
    start
        Positions at τ = 0, (n, 2), state units.
    displacement
        From τ = 0 to τ = 1, (n, 2).
    leaving, arriving
        Derivatives dx/dτ at τ = 0 and at τ = 1, (n, 2).
    expression
        Principal components at τ = 0, (n, G), state units.
    change
        What they have changed by at equally spaced τ from 0 to 1, (nodes, n, G); (1, n, 1) where nothing changes.
    depth
        Depth of each block's own section, (B,).
    gap
        Signed depth from it to the other section, (B,): negative for the backward direction.
    sizes
        Cells of each block.
    """

    start: Tensor
    displacement: Tensor
    leaving: Tensor
    arriving: Tensor
    expression: Tensor
    change: Tensor
    depth: Tensor
    gap: Tensor
    sizes: tuple[int, ...]

    def at(self, fraction: Tensor) -> tuple[Tensor, Tensor]:
        """State and drift du/dz, both (n, 3 + G), at fractions τ (B,) of the blocks.

        Positions follow the cubic Hermite curve through start and displacement, so that the drift is continuous
        across sections; the expression follows the polynomial through its nodes.
        """
        sizes = torch.tensor(self.sizes, device=self.start.device)
        t, gap, depth = (v.repeat_interleave(sizes)[:, None] for v in (fraction, self.gap, self.depth))
        moved, velocity = _hermite(t, self.displacement, self.leaving, self.arriving)
        changed, rate = _through_nodes(t, self.change)
        state = torch.cat([self.start + moved, depth + t * gap, self.expression + changed], dim=1)
        drift = torch.cat([velocity / gap, torch.ones_like(t), (rate / gap).expand_as(self.expression)], dim=1)
        return state, drift

    def split(self, n_cells: int) -> Iterator[Paths]:
        """Parts of whole blocks, one after another, with about so many cells each; they share this one's memory."""
        first = np.concatenate([[0], np.cumsum(self.sizes)])
        begins = np.unique(first[1:].searchsorted(np.arange(0, first[-1], n_cells), side="right"))
        for begin, end in pairwise([*begins.tolist(), len(self.sizes)]):
            yield self._part(slice(first[begin], first[end]), slice(begin, end), self.sizes[begin:end])

    def take(self, rows: Mapping[int, Tensor]) -> Paths:
        """Paths of some cells of some blocks, given by their rows in each; at least of one."""
        kept = list(rows)
        first = np.concatenate([[0], np.cumsum(self.sizes)])
        cells = torch.cat([rows[block] + int(first[block]) for block in kept])
        return self._part(cells, kept, tuple(len(rows[block]) for block in kept))

    def _part(self, cells: Tensor | slice, blocks: list[int] | slice, sizes: tuple[int, ...]) -> Paths:
        return Paths(
            self.start[cells],
            self.displacement[cells],
            self.leaving[cells],
            self.arriving[cells],
            self.expression[cells],
            self.change[:, cells],
            self.depth[blocks],
            self.gap[blocks],
            sizes,
        )

    def to(self, device: torch.device) -> Paths:
        """Move to another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def _hermite(t: Any, displacement: Any, leaving: Any, arriving: Any) -> tuple[Any, Any]:
    """Cubic from 0 at t = 0 to `displacement` at t = 1 with the given end derivatives: its value and derivative."""
    value = (t**3 - 2 * t**2 + t) * leaving + (3 * t**2 - 2 * t**3) * displacement + (t**3 - t**2) * arriving
    slope = (3 * t**2 - 4 * t + 1) * leaving + (6 * t - 6 * t**2) * displacement + (3 * t**2 - 2 * t) * arriving
    return value, slope


def path_width(n_cells: int, *, adaptive: bool) -> int:
    """Cells that the expected expression along paths is smoothed over, from those for the volume.

    Where the volume's estimate is adaptive, half as many, those of its pilot: the sharp edges that it keeps are no
    change that a cell could follow on a smooth path, so along paths a plain regression is taken.
    """
    return max(n_cells // 2, 1) if adaptive else n_cells


def section_paths(
    positions: Sequence[NDArray[np.floating]],
    expression: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    *,
    field: Callable[[int], LocalLinear],
    displacements: Displacements,
    expression_shift: float,
    blocks: Callable[[int], Sequence[NDArray[np.integer]]] | None = None,
) -> tuple[Paths, Paths]:
    """Paths of the forward and of the backward direction.

    A cell of section k moves along the curve of its displacement. Its components g change by
    β (m(x(τ), τ) − m(x(0), 0)), m(x, τ) = (1 − τ) m_k(x) + τ m_{k±1}(x) the expected expression between the sections:
    the cell keeps what sets it apart from its surroundings, and follows what they have in common.

    Parameters
    ----------
    positions
        Cells of each section (n_k, 2), state units, sections in order of depth.
    expression
        Principal components of the same cells (n_k, G), state units.
    depths
        Depth of each section (K,), state units.
    field
        Gives the expected expression of a section on the plane, m_k; asked for two neighbours at a time.
    displacements
        Where the cells go, see `section_displacements`.
    expression_shift
        β in [0, 1].
    blocks
        Gives the cells of section k to make paths of, as the rows of one or more blocks; all as one when None.

    Returns
    -------
    Paths of the sections but the last, upwards, and of those but the first, downwards; float32.
    """
    velocities = _section_velocities(displacements, np.diff(depths))
    field = lru_cache(2)(field)
    tree = lru_cache(2)(lambda k: cKDTree(positions[k]))

    def cross(own: int, other: int, displacement: NDArray[np.float64], rows: NDArray[np.integer]) -> Paths:
        start, moved, gap = positions[own][rows], displacement[rows], float(depths[other] - depths[own])
        landed = nearest_points(tree(other), start + moved, _LANDED_OVER)[1]
        leaving, arriving = velocities[own][rows] * gap, velocities[other][landed].mean(1) * gap
        nodes = np.zeros((1, len(rows), 1), np.float32)
        if expression_shift:
            nodes = np.zeros((_NODES, len(rows), expression[own].shape[1]), np.float32)
            base = field(own)(start).mean
            for node, t in zip(nodes[1:], np.linspace(0, 1, _NODES)[1:], strict=True):  # nothing changed yet at 0
                place = start + _hermite(t, moved, leaving, arriving)[0]
                mean = (1 - t) * field(own)(place).mean + t * field(other)(place).mean
                node[:] = expression_shift * (mean - base)
        return Paths(
            start=_float32(start),
            displacement=_float32(moved),
            leaving=_float32(leaving),
            arriving=_float32(arriving),
            expression=_float32(expression[own][rows]),
            change=_float32(nodes),
            depth=_float32([depths[own]]),
            gap=_float32([gap]),
            sizes=(len(rows),),
        )

    forward: list[Paths] = []
    backward: list[Paths] = []
    for k, (up, down) in enumerate(zip(displacements.up, displacements.down, strict=True)):
        for paths, (own, other), displacement in ((forward, (k, k + 1), up), (backward, (k + 1, k), down)):
            chosen = [np.arange(len(displacement))] if blocks is None else blocks(own)
            paths += [cross(own, other, displacement, rows) for rows in chosen]
    return _joined(forward), _joined(backward)


def _section_velocities(displacements: Displacements, gaps: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """dx/dz of every section's cells, the mean over the one or two gaps that it borders."""
    rising = [moved / gap for moved, gap in zip(displacements.up, gaps, strict=True)]
    falling = [-moved / gap for moved, gap in zip(displacements.down, gaps, strict=True)]
    inner = [(up + down) / 2 for up, down in zip(rising[1:], falling[:-1], strict=True)]
    return [rising[0], *inner, falling[-1]]


def _joined(parts: Sequence[Paths]) -> Paths:
    def joined(name: str, dim: int = 0) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts], dim=dim)

    return Paths(
        joined("start"),
        joined("displacement"),
        joined("leaving"),
        joined("arriving"),
        joined("expression"),
        joined("change", dim=1),
        joined("depth"),
        joined("gap"),
        sizes=tuple(size for part in parts for size in part.sizes),
    )


def _through_nodes(t: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Polynomial through equally spaced `nodes` (m, n, G) on [0, 1]: its value and derivative at t (n, 1)."""
    places = torch.linspace(0, 1, len(nodes), dtype=torch.float64)
    # coefficients of the basis polynomials: the inverse Vandermonde matrix, (power, node)
    basis = torch.linalg.inv(torch.vander(places, increasing=True)).to(t)
    powers = [t**i for i in range(len(nodes))]
    slopes = [torch.zeros_like(t)] + [i * powers[i - 1] for i in range(1, len(nodes))]
    value, slope = (
        torch.einsum("nm,mng->ng", torch.cat(columns, dim=1) @ basis, nodes) for columns in (powers, slopes)
    )
    return value, slope


def _float32(values: object) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float32))
