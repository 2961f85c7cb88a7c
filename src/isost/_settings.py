from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from ._checks import check_count
from ._logging import logger

__all__ = ["Settings", "settings"]


@dataclass
class Settings:
    """What holds for the whole session; set attributes of `isost.settings`.

    Attributes
    ----------
    progress
        Whether long work shows a progress bar.
    n_threads
        CPU threads of one call, at least 1. More than one helps only on an otherwise idle machine.
    precision
        In what the networks compute: ``"float32"``, or ``"bfloat16"``, faster where the processor or GPU has it.
        Positions, expression and weights stay float32; what the networks multiply and pass on is rounded.
    """

    progress: bool = True
    n_threads: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __setattr__(self, name: str, value: object) -> None:
        if name == "n_threads":
            check_count(**{"settings.n_threads": value})
        if name == "precision" and value not in ("float32", "bfloat16"):
            msg = f"settings.precision must be 'float32' or 'bfloat16', got {value!r}"
            raise ValueError(msg)
        super().__setattr__(name, value)

    @property
    def verbosity(self) -> str:
        """Level of the logger `isost`: ``"ERROR"``, ``"WARNING"``, ``"INFO"`` or ``"DEBUG"``."""
        return logging.getLevelName(logger.getEffectiveLevel())

    @verbosity.setter
    def verbosity(self, level: str) -> None:
        logger.setLevel(level)
        if not any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            logger.addHandler(handler)


settings = Settings()
