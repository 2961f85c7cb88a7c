from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._section import Section

__all__ = ["Registration", "registration"]


class Registration(NamedTuple):
    """How well one section lies on another, and the rigid transformation after which it would lie best.

    That takes a point p of the upper section to c + shift + R · M · (p − c), where c is the mean of its points, M
    mirrors x if `mirrored`, and R turns by `rotation`.

    Attributes
    ----------
    overlap, best_overlap
        Overlap of the outlines as they are and after the transformation: the area of both together over the geometric
        mean of their areas, in [0, 1].
    correlation, best_correlation
        Correlation of the smoothed expression as it is and after the transformation, in [-1, 1].
    shift
        x and y, in the unit of the positions.
    rotation
        Degrees, from x towards y, in [-180, 180).
    mirrored
        Whether x is mirrored.
    """

    overlap: float
    correlation: float
    best_overlap: float
    best_correlation: float
    shift: tuple[float, float]
    rotation: int
    mirrored: bool

    @property
    def gain(self) -> float:
        """What the transformation adds to the mean of overlap and correlation."""
        return (self.best_overlap + self.best_correlation - self.overlap - self.correlation) / 2


def registration(
    lower: Section, upper: Section, *, n_pixels: int = 64, step: int = 10, fine_step: int | None = 1
) -> Registration:
    """Measure how well two sections are registered to each other, by their outlines and by the pattern of expression.

    Both are drawn as images, the upper one in all rotations by `step`, as it is and mirrored, then by `fine_step`
    around the best; the correlation theorem gives the shift of each that makes the mean of overlap and correlation
    largest.

    Parameters
    ----------
    lower, upper
        The sections; as expression, values with a pattern that neighbours share, such as principal components.
    n_pixels
        Pixels across the wider section.
    step, fine_step
        Of the two searches for the rotation, degrees; with None as `fine_step` there is the first one only.

    Returns
    -------
    The measures; shifts to a pixel, and rotations to a step of the last search.
    """
    center, own_center = lower.positions.mean(axis=0), upper.positions.mean(axis=0)
    pixel = float(max(np.ptp(section.positions, axis=0).max() for section in (lower, upper))) / n_pixels
    blur = max(1.5, n_pixels / np.sqrt(min(lower.n_cells, upper.n_cells)))
    image = _image((lower.positions - center) / pixel, lower.expression, n_pixels, blur)
    spectrum = rfft2(image)

    def placed(degrees: int, mirrored: bool, shift: ArrayLike) -> NDArray[np.float64]:
        points = (upper.positions - own_center) @ _rotation(degrees, mirrored).T / pixel
        return _image(points + shift, upper.expression, n_pixels, blur)

    def best_shift(degrees: int, mirrored: bool) -> tuple[float, int, bool, tuple[int, int]]:
        """Largest similarity, with the rotation, mirroring and shift, in pixels from centre to centre."""
        products = rfft2(placed(degrees, mirrored, 0)).conj() * spectrum
        similarity = irfft2(products.sum(axis=0), image.shape[1:])
        x, y = np.unravel_index(similarity.argmax(), similarity.shape)
        return float(similarity[x, y]), degrees, mirrored, (_signed(x, len(similarity)), _signed(y, len(similarity)))

    best = max(best_shift(degrees, m) for degrees in range(-180, 180, step) for m in (False, True))
    if fine_step is not None:
        _, near, mirrored, _ = best
        best = max(best_shift(degrees, mirrored) for degrees in range(near - step, near + step + 1, fine_step))
    _, degrees, mirrored, shift = best
    x, y = (center - own_center + np.array(shift) * pixel).tolist()
    return Registration(
        *_agreement(image, placed(0, False, (own_center - center) / pixel)),
        *_agreement(image, placed(degrees, mirrored, shift)),
        shift=(x, y),
        rotation=_signed(degrees, 360),
        mirrored=mirrored,
    )


def _signed(number: Any, period: int) -> int:
    """Bring a number of a period around 0."""
    return int((number + period // 2) % period - period // 2)


def _agreement(image: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Overlap of the outlines, and correlation of the values."""
    products = 2 * (image * other).sum(axis=(1, 2))
    return float(products[0]), float(products[1:].sum())


def _rotation(degrees: int, mirrored: bool) -> NDArray[np.float64]:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])


def _image(points: NDArray[np.float64], values: NDArray[np.float64], n_pixels: int, blur: float) -> NDArray[np.float64]:
    """Draw a section: its outline, and its values inside, as images (1 + g, x, y) with squares that sum to ½ and ½.

    They are twice as wide as the wider section: a turned one is up to √2 as wide, and is shifted.

    The sum of the products of two such images is the mean of the overlap of the outlines and of the correlation of
    the values.
    """
    side = 2 * n_pixels
    pixels = np.floor(points + n_pixels).astype(np.intp)
    inside = ((pixels >= 0) & (pixels < side)).all(axis=1)
    flat = pixels[inside] @ [side, 1]
    weights = np.column_stack([np.ones(inside.sum()), (values - values.mean(axis=0))[inside]])
    sums = np.stack([np.bincount(flat, weight, side**2).reshape(side, side) for weight in weights.T])
    density, *smooth = gaussian_filter(sums, (0, blur, blur), mode="constant")
    outline = density > np.median(density.ravel()[flat]) / 4 if len(flat) else np.zeros_like(density, dtype=bool)
    within = np.where(outline, np.array(smooth) / np.where(outline, density, 1), 0.0)
    parts = (outline[None].astype(np.float64), within)
    return np.concatenate([part / max(np.sqrt(2 * (part**2).sum()), np.finfo(float).tiny) for part in parts])
