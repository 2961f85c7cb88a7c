from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

import isost

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Debug", "Device", "Seed", "Verbose", "app", "errors_in_a_line", "stage", "talk"]

# In docstrings of commands, \b tells click to keep the lines of a paragraph as they are.

app = typer.Typer(
    name="isost",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Seed = Annotated[int, typer.Option(help="Seed of everything random: the same seed gives the same result.")]
Device = Annotated[
    str | None, typer.Option(help="Where to train, such as cpu or cuda. Default: a GPU if there is one.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from, not only what it says.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every step, its time and what it wrote.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isost {isost.__version__}")
        raise typer.Exit


@app.callback()
def isost_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    """Turn registered 2D sections of spatial transcriptomics into a 3D volume.

    \b
    See what it does, on a synthetic organ (a minute or so):
        isost demo
    What is wrong with your sections, if anything:
        isost check s1.h5ad s2.h5ad s3.h5ad --z 0 --z 50 --z 100
    A volume from one file for each section:
        isost reconstruct s1.h5ad s2.h5ad s3.h5ad --z 0 --z 50 --z 100 -o volume.h5ad
    How far to trust it, by leaving out sections:
        isost evaluate s1.h5ad s2.h5ad s3.h5ad s4.h5ad -o scores.csv
    The files of the published program:
        isost train experiments data --config config.yml
        isost infer experiments data result
        isost volume data result --size 1 0.8 0.5 --max-lence 220 --pca pca.npz
    """  # noqa: D301


def talk(verbose: bool) -> None:
    """Log every step if asked to, and show progress where someone looks on."""
    if verbose:
        isost.settings.verbosity = "INFO"
    isost.settings.progress = sys.stderr.isatty()


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say what a part of the work took."""
    start = time.perf_counter()
    yield
    typer.echo(f"{what:<10}{time.perf_counter() - start:8.1f} s")


@contextmanager
def errors_in_a_line(*, debug: bool) -> Iterator[None]:
    """Say what is wrong with the input in one line and exit with 1; anything else is a bug and keeps its traceback."""
    try:
        yield
    except (KeyError, ValueError, OSError, FloatingPointError, MemoryError) as error:
        if debug:
            raise
        # str of a KeyError is quoted
        message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        typer.echo(f"isost: {' '.join(message.split())} (--debug shows where)", err=True)
        raise typer.Exit(1) from None
