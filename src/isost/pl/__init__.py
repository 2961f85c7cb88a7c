from __future__ import annotations

from ._animate import animate
from ._cut import cut
from ._evaluation import evaluation
from ._gene_grid import gene_grid
from ._slices import slices
from ._surface import surface
from ._training import training
from ._uncertainty import uncertainty
from ._volume import volume

__all__ = [
    "animate",
    "cut",
    "evaluation",
    "gene_grid",
    "slices",
    "surface",
    "training",
    "uncertainty",
    "volume",
]
