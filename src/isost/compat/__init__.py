"""The published program's functions, files and names, on the same core as the rest of isost."""

from __future__ import annotations

from ._checkpoints import load_checkpoint, save_checkpoint
from ._config import Config, read_config
from ._inference import fine_inference
from ._outputs import check_outputs
from ._pca import LinearPCA, convert_pca, read_genes, read_mean_sd
from ._pipeline import build_volume
from ._plot import plot_multi_gene_3d
from ._slices import default_z_scale, read_stack, write_stack
from ._tensors import slide_names
from ._train import biaxial_multi_group_train, biaxial_train
from ._volume import VolumeProcessor

__all__ = [
    "Config",
    "LinearPCA",
    "VolumeProcessor",
    "biaxial_multi_group_train",
    "biaxial_train",
    "build_volume",
    "check_outputs",
    "convert_pca",
    "default_z_scale",
    "fine_inference",
    "load_checkpoint",
    "plot_multi_gene_3d",
    "read_config",
    "read_genes",
    "read_mean_sd",
    "read_stack",
    "save_checkpoint",
    "slide_names",
    "write_stack",
]
