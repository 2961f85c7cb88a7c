from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import isost

from ._app import Debug, Device, Seed, Verbose, app, errors_in_a_line, stage, talk

__all__ = ["infer", "train", "volume"]

ExperimentDir = Annotated[Path, typer.Argument(help="Folder of config.yml, checkpoints and model.pt.")]
DataDir = Annotated[Path, typer.Argument(help="Folder of the sections, a .pt file each, and their CSVs.")]
ResultDir = Annotated[Path, typer.Argument(help="Folder of the frames and the volume.")]
Slides = Annotated[
    list[str] | None,
    typer.Option("--slide", help="Section, once for each, in the order of depth. Default: all in the folder, upwards."),
]
BatchNum = Annotated[int, typer.Option(help="Parts that each section is split into, in file order.")]
Mode = Annotated[str, typer.Option(help="joint, shape (coo) or expression (seq).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same command was stopped.")]


@app.command()
def train(
    experiment_dir: ExperimentDir,
    data_dir: DataDir,
    config: Annotated[Path, typer.Option(help="The config.yml of the published program.")],
    slide: Slides = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Sections of one group, with commas between; once for each group. Instead of --slide."),
    ] = None,
    epoch: Annotated[
        list[int] | None,
        typer.Option(help="Epochs of a phase, once for each: 1 (joint), 2, 3 or 4 of them. Default: 100, 100, 100."),
    ] = None,
    batch_num: BatchNum = 1,
    mode: Mode = "joint",
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between checkpoints.")] = 20,
    backup_every: Annotated[int, typer.Option(help="Epochs between lines of the log (--verbose).")] = 5,
    seed: Seed = 0,
    device: Device = None,
    resume: Resume = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train on sections in the files of the published program.

    \b
    Three phases of 100 epochs on all sections of a folder:
        isost train experiments data/1_of_5_normPC_1 --config config.yml
    Sections named, a joint phase alone, going on after a stop:
        isost train experiments data --config config.yml --slide a --slide b --epoch 200 --resume
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        talk(verbose)
        if slide and group:
            msg = "--slide and --group exclude each other: give the sections of one, or of several groups"
            raise ValueError(msg)
        groups = [names.split(",") for names in group or ()] or [slide or isost.compat.slide_names(data_dir)]
        chosen: Any = mode
        with stage("training"):
            isost.compat.biaxial_multi_group_train(
                experiment_dir,
                data_dir,
                groups,
                batch_num,
                config,
                device,
                checkpoint_every,
                backup_every,
                epoch or [100, 100, 100],
                chosen,
                seed=seed,
                resume=resume,
            )
        _say_outputs(experiment_dir, needed=["config.yml", "model.pt"])


@app.command()
def infer(
    experiment_dir: ExperimentDir,
    data_dir: DataDir,
    result_dir: ResultDir,
    slide: Slides = None,
    step: Annotated[float | None, typer.Option(help="Wanted length of a step in z. Default: delta_d.")] = None,
    batch_num: BatchNum = 1,
    mode: Mode = "joint",
    seed: Seed = 0,
    device: Device = None,
    resume: Resume = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Carry sections through the gaps by a trained model, and write the frames on the way.

    \b
    All sections of a folder, in five parts each, as dense as those of the training were:
        isost infer experiments data result --batch-num 5
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        talk(verbose)
        chosen: Any = mode
        with stage("inference"):
            isost.compat.fine_inference(
                experiment_dir,
                data_dir,
                slide or isost.compat.slide_names(data_dir),
                chosen,
                step,
                result_dir,
                batch_num,
                device,
                seed=seed,
                resume=resume,
            )
        _say_outputs(experiment_dir, result_dir, needed=["*_forward.npy"])


@app.command()
def volume(
    data_dir: DataDir,
    result_dir: ResultDir,
    size: Annotated[tuple[float, float, float], typer.Option(help="Extent along x, y and z, where x is about 1 wide.")],
    max_lence: Annotated[int, typer.Option(help="Voxels along an extent of 1.")],
    z_scale: Annotated[
        float | None, typer.Option(help="What z is divided by. Default: so that voxels are cubes.")
    ] = None,
    swamp: Annotated[bool, typer.Option("--swamp", help="Swap x and z.")] = False,
    time: Annotated[bool, typer.Option("--time", help="A layer for each frame, z of --size their number.")] = False,
    genes: Annotated[Path | None, typer.Option(help="gene.csv. Default: that of the folder of sections.")] = None,
    pca: Annotated[
        Path | None, typer.Option(help="PCA for the expression: .npz, or a pickle (--trusted). Default: pca.npz there.")
    ] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Load a pickled PCA. A pickle can run any program: trust its origin.")
    ] = False,
    unscale: Annotated[
        Path | None,
        typer.Option(help="CSV of gene_symbol, mean and sd: also write the expression with its z-score undone."),
    ] = None,
    resume: Resume = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Average the frames in voxels, and turn their components into expression.

    \b
    A volume of 220 voxels along x, and the expression that a trusted pickle gives:
        isost volume data result --size 1.0 0.8 0.5 --max-lence 220 --pca zscore_pc_model.pkl --trusted
    """  # noqa: D301
    with errors_in_a_line(debug=debug):
        talk(verbose)
        with stage("volume"):
            made = isost.compat.build_volume(
                data_dir,
                result_dir,
                size,
                max_lence,
                z_scale=z_scale,
                swamp=swamp,
                time=time,
                genes=genes,
                pca=pca,
                unscale=unscale,
                trusted=trusted,
                resume=resume,
            )
        _say_outputs(None, result_dir, needed=[path.name for path in made])


def _say_outputs(experiment_dir: Path | None, result_dir: Path | None = None, *, needed: list[str]) -> None:
    """Print which outputs are there, and fail when one that this command makes is not."""
    outputs = isost.compat.check_outputs(experiment_dir, result_dir)
    for file, there, what in outputs.itertuples(index=False):
        typer.echo(f"  {'there  ' if there else 'missing'}  {file}  {what}".rstrip())
    lacking = [file for file in outputs["file"][~outputs["there"]] if Path(file).name in needed]
    if lacking:
        typer.echo(f"isost: {', '.join(lacking)} was not made", err=True)
        raise typer.Exit(1)
