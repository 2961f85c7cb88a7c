"""Reading sections; writing sections, stacks and volumes; handing them to image tools and SpatialData."""

from __future__ import annotations

from ._files import SUFFIXES, read, write
from ._image import write_image
from ._sections import read_sections
from ._spatialdata import to_spatialdata
from ._split import named_sections, point_depths, split_sections
from ._volume import SlabFolder, read_volume

__all__ = [
    "SUFFIXES",
    "SlabFolder",
    "named_sections",
    "point_depths",
    "read",
    "read_sections",
    "read_volume",
    "split_sections",
    "to_spatialdata",
    "write",
    "write_image",
]
