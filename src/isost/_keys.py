"""Names of the AnnData fields that isost reads and writes: one name for one thing, everywhere."""

from __future__ import annotations

UNS = "isost"  # uns: parameters, normalisation, grid
SECTIONS = "sections"  # uns["isost"] of a stack and a volume: names and depths z of the sections, in z order
PROVENANCE = "provenance"  # uns["isost"]: what made this, enough to make it again
STATE = "X_isost"  # obsm of a stack: normalised state (n, 3 + G)
SPATIAL = "spatial"  # obsm: positions (n, 3), input units
SECTION = "section"  # obs of a stack: ordered categorical, in z order
PCS = "PCs"  # varm: gene loadings, (n_vars, G) of a stack, (n_vars, C) of a volume
GENE_MEAN = "gene_mean"  # var of a stack and a volume: mean of each gene that decoding adds, input's scale
GENE_SCALE = "gene_scale"  # var of a stack and a volume: scale of each gene that decoding multiplies by, input's scale
GENE_MIN, GENE_MAX = "gene_min", "gene_max"  # var of a stack: least and largest value of each gene, input's scale
OF_GENES = (GENE_MEAN, GENE_SCALE, GENE_MIN, GENE_MAX)
X_PCA = "X_pca"  # obsm of a volume: expected components (n, C), of which its PCs are the loadings
VOXEL = "voxel"  # obsm of a volume: integer voxel indices (n, 3)
DENSITY = "density"  # obs of a volume: expected cells of one section in the voxel
MEASURED = "measured"  # obs: whether a measured section lies here
SECTION_DISTANCE = "section_distance"  # obs: distance in z to the nearest measured section, input units
SOURCE_SECTION = "source_section"  # obs of a generated section: the section a cell came from
UNCERTAINTY = "uncertainty"  # obs: root mean square over z-scored components of the mean's standard error
MEAN = "mean"  # layer of a generated section: expected expression
STD = "std"  # layer of a generated section: standard error of the mean
CUT = "cut"  # obs of generated sections: which of several depths or planes
PLANE = "plane"  # obsm of a generated oblique section: positions (n, 2) in the plane, input units
