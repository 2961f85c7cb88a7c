from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import isost
from isost._checks import layer_names

from ._app import Debug, Device, Seed, Verbose, app, errors_in_a_line, stage, talk

if TYPE_CHECKING:
    from collections.abc import Container

    from anndata import AnnData
    from pandas import DataFrame

__all__ = ["check", "demo", "evaluate", "reconstruct"]

SectionFiles = Annotated[
    list[Path],
    typer.Argument(
        help="One .h5ad or .zarr for each section, a folder of them, or one with all sections; a SpatialData too."
    ),
]
Depths = Annotated[
    list[float] | None, typer.Option(help="Depth of a section, in the unit of x and y; once for each, in order.")
]
DepthKey = Annotated[str, typer.Option(help="Column of obs with the depth, if not given by --z.")]
SpatialKey = Annotated[str, typer.Option(help="Key of obsm with x and y, and z if it has a third column.")]
SectionKey = Annotated[str, typer.Option(help="Column of obs that names the section, in a file with several.")]
Layer = Annotated[str | None, typer.Option(help="Layer with the expression. Default: X.")]
Log1p = Annotated[bool, typer.Option(help="Take log(1 + x) first, for expression that is not logged yet.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to; made if need be.")] = Path("demo"),
    seed: Seed = 0,
    device: Device = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Reconstruct a synthetic organ and draw it."""
    with errors_in_a_line(debug=debug):
        talk(verbose)
        _demo(out, seed=seed, device=device)


@app.command()
def check(
    sections: SectionFiles,
    z: Depths = None,
    z_key: DepthKey = "z",
    spatial_key: SpatialKey = "spatial",
    section_key: SectionKey = "section",
    layer: Layer = None,
    log1p: Log1p = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Look for what is wrong with your sections, or probably is, before a volume is made of them.

    Prints what was found and what to do about it; exits with 1 if the sections cannot be used as they are.

    \b
    One file for each section, or one with all of them:
        isost check s1.h5ad s2.h5ad s3.h5ad --z 0 --z 50 --z 100
        isost check brain.h5ad --section-key slice --z-key depth
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        report = isost.pp.check(
            _read(sections, section_key=section_key, layer=layer, log1p=log1p),
            spatial_key=spatial_key,
            z_key=z_key,
            z=z or None,
            section_key=section_key,
            layer=layer,
            seed=seed,
        )
    for row in report.itertuples():
        typer.echo(f"{row.severity} ({row.check}): {row.message}{'; ' * bool(row.advice)}{row.advice}")
    typer.echo(_counted(report) if len(report) else "nothing found")
    if (report["severity"] == "error").any():
        raise typer.Exit(1)


def _counted(report: DataFrame) -> str:
    return ", ".join(f"{n} {severity}{'s' * (n > 1)}" for severity, n in report["severity"].value_counts().items())


@app.command()
def reconstruct(
    sections: SectionFiles,
    out: Annotated[Path, typer.Option("--out", "-o", help="Volume to write: .h5ad or .zarr.")],
    z: Depths = None,
    z_key: DepthKey = "z",
    spatial_key: SpatialKey = "spatial",
    section_key: SectionKey = "section",
    layer: Layer = None,
    log1p: Log1p = False,
    voxel_size: Annotated[
        float | None, typer.Option(help="Edge of a voxel, in the unit of x and y. Default: by the cells' spacing.")
    ] = None,
    gene: Annotated[list[str] | None, typer.Option(help="Gene to write, once for each. Default: all genes.")] = None,
    model_out: Annotated[Path | None, typer.Option(help="Folder to save the trained model in.")] = None,
    lazy: Annotated[
        bool,
        typer.Option(
            "--lazy",
            help="For what exceeds memory: read section by section, write slab by slab. Stopped, the same command goes "
            "on with the volume where it was. Genes are decoded on read, by isost.io.read_volume; --out is .zarr.",
        ),
    ] = False,
    seed: Seed = 0,
    device: Device = None,
    devices: Annotated[
        int, typer.Option(help="Processes that share the work on this machine, each with its own GPU if there are any.")
    ] = 1,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Reconstruct a volume from your sections.

    Trains on the sections and writes one AnnData with a row for each voxel. Expression is expected normalised
    and logged (or say --log1p); positions registered, all in one unit.

    \b
    Depths from obs["z"] of each file, voxels of 20 (µm, if that is the unit of x and y):
        isost reconstruct s1.h5ad s2.h5ad s3.h5ad --voxel-size 20 -o volume.zarr
    One file with all sections, named by obs["slice"]:
        isost reconstruct brain.h5ad --section-key slice --z-key depth -o volume.h5ad
    Two genes only, and keep the model:
        isost reconstruct sections/ --gene Gad1 --gene Slc17a6 --model-out model -o volume.h5ad
    A whole organ on a laptop:
        isost reconstruct sections/ --lazy -o volume.zarr
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        talk(verbose)
        if out.suffix not in isost.io.SUFFIXES:  # said before the training, not after it
            msg = f"--out {out} must end in {' or '.join(isost.io.SUFFIXES)}"
            raise ValueError(msg)
        if lazy and out.suffix != ".zarr":
            msg = f"--out {out} must end in .zarr with --lazy"
            raise ValueError(msg)
        with stage("sections"):
            stack = isost.pp.slice_stack(
                _read(sections, section_key=section_key, layer=layer, log1p=log1p, lazy=lazy),
                spatial_key=spatial_key,
                z_key=z_key,
                z=z or None,
                section_key=section_key,
                layer=layer,
                lazy=lazy,
            )
            if missing := [name for name in gene or () if name not in stack.var_names]:
                msg = f"genes {missing} are not in all sections; they share {stack.n_vars} genes"
                raise KeyError(msg)
        with stage("model"):
            model = isost.tl.fit(stack, seed=seed, device=device, devices=devices)
        if model_out is not None:
            model.save(model_out)
        with stage("volume"):
            store = out if lazy else None
            volume = isost.tl.reconstruct(
                stack, model=model, voxel_size=voxel_size, genes=gene or None, store=store, devices=devices
            )
            if not lazy:
                isost.io.write(volume, out)
        _say_what_was_made(volume, [out] if model_out is None else [out, model_out])


@app.command()
def evaluate(
    sections: SectionFiles,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Section to leave out, by name or by number in z order from 0, once for each; they are left out "
            "together. Default: every section but the first and the last, one after another."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Table of all scores to write: .csv.")] = None,
    z: Depths = None,
    z_key: DepthKey = "z",
    spatial_key: SpatialKey = "spatial",
    section_key: SectionKey = "section",
    layer: Layer = None,
    log1p: Log1p = False,
    seed: Seed = 0,
    device: Device = None,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Score generated sections against measured ones that were left out.

    Trains without the held-out sections, generates them, and prints how well they match what was measured, beside
    simple baselines, and a verdict for each score. One training for every section left out in turn.

    \b
    Every interior section in turn, all scores of all sections and genes to a file:
        isost evaluate s1.h5ad s2.h5ad s3.h5ad s4.h5ad -o scores.csv
    Two sections left out together, in one training:
        isost evaluate sections/ --hold-out s2 --hold-out s4
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        talk(verbose)
        if out is not None and out.suffix != ".csv":
            msg = f"--out {out} must end in .csv"
            raise ValueError(msg)
        with stage("sections"):
            adatas = _read(sections, section_key=section_key, layer=layer, log1p=log1p)
        with stage("scores"):
            scores = isost.tl.evaluate(
                adatas,
                hold_out=[_name_or_number(one, names=adatas) for one in hold_out] if hold_out else None,
                seed=seed,
                stack_kws={
                    "spatial_key": spatial_key,
                    "z_key": z_key,
                    "z": z or None,
                    "section_key": section_key,
                    "layer": layer,
                },
                fit_kws={"device": device},
            )
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            scores.to_csv(out)
        _say_scores(scores)
        if out is not None:
            typer.echo(f"\nWritten:\n  {out}")


def _demo(out: Path, *, seed: int, device: str | None) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    with stage("sections"):
        sections = isost.datasets.organ(seed=seed)
        stack = isost.pp.slice_stack(sections)
    with stage("model"):
        model = isost.tl.fit(stack, seed=seed, device=device)
    with stage("volume"):
        volume = isost.tl.reconstruct(stack, model=model)
        isost.io.write(volume, out / "volume.h5ad")
    with stage("pictures"):
        kinds = sections[0].var["kind"]
        gene = str(kinds.index[kinds == "marker"][0])
        depths = sorted(float(section.obs["z"].iloc[0]) for section in sections)
        between = isost.tl.section(stack, model=model, z=sum(depths[2:4]) / 2, seed=seed)
        panels: Any = isost.pl.slices(stack, generated=between, color=gene, unit="µm", ncols=4, show=False)
        panels[0].figure.savefig(out / "slices.png", dpi=150)
        picture: Any = isost.pl.volume(volume, color=gene, unit="µm", show=False)
        picture.savefig(out / "volume.png", dpi=150)
        page: Any = isost.pl.volume(volume, color=gene, unit="µm", backend="plotly", show=False)
        page.write_html(out / "volume.html", include_plotlyjs=True)
    _say_what_was_made(volume, [out / name for name in ("volume.h5ad", "volume.png", "slices.png", "volume.html")])


def _say_what_was_made(volume: AnnData, paths: list[Path]) -> None:
    size = float(volume.uns["isost"]["grid"]["voxel_size"])
    typer.echo(f"{volume.n_obs:,} voxels of edge {size:.4g}, {volume.n_vars:,} genes. Written:")
    for path in paths:
        typer.echo(f"  {path}")


def _say_scores(scores: DataFrame) -> None:
    means = scores.xs(("mean", "all"))
    numbers = means.drop(columns="verdict").rename_axis(None)
    held = list(scores.index.unique("section"))[1:]
    typer.echo(f"\nMeans over the held-out sections {', '.join(held)}:\n")
    typer.echo(numbers.to_string(float_format=lambda value: f"{value:.4f}"))
    typer.echo("\nisost beside the best baseline (self is a level that no method is expected to reach):\n")
    for metric, words in means["verdict"].items():
        typer.echo(f"{metric:<11}{words}")


def _name_or_number(text: str, *, names: Container[str]) -> str | int:
    return int(text) if text not in names and text.removeprefix("-").isdecimal() else text


def _read(
    sections: list[Path], *, section_key: str, layer: str | None, log1p: bool, lazy: bool = False
) -> dict[str, AnnData]:
    source = sections[0] if len(sections) == 1 else sections
    adatas = isost.io.read_sections(source, section_key=section_key, lazy=lazy)
    if log1p:
        # sections of one file are views of it, which scanpy does not write to without a warning
        adatas = {name: adata.copy() for name, adata in adatas.items()}
        _log1p(adatas, layer=layer)
    return adatas


def _log1p(adatas: dict[str, AnnData], *, layer: str | None) -> None:
    import scanpy as sc

    for name, adata in adatas.items():
        if layer is not None and layer not in adata.layers:
            msg = f"section {name!r} has no layer {layer!r}; there are {sorted(layer_names(adata))}"
            raise KeyError(msg)
        sc.pp.log1p(adata, layer=layer)
