"""The command `isost`: what the package does most, from a shell."""

from __future__ import annotations

from . import _published, _sections
from ._app import app

__all__ = ["app", "main"]

_COMMANDS = (_published, _sections)  # importing them adds their commands


def main() -> None:
    """Run the command line."""
    app()
