from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ._logging import logger

__all__ = ["Settings", "settings"]

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass
class Settings:
    """What holds for the whole session; set attributes of `isost.settings`.

    Attributes
    ----------
    progress
        Whether long work shows a progress bar.
    n_threads
        CPU threads of one call. More than one helps only on an otherwise idle machine.
    """

    progress: bool = True
    n_threads: int = 1
    _precision: Precision = field(default="float32", init=False, repr=False)

    @property
    def precision(self) -> Precision:
        """In what the networks compute: ``"float32"``, or ``"bfloat16"``, faster where the processor or GPU has it.

        Positions, expression and weights stay float32; what the networks multiply and pass on is rounded.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        if precision not in get_args(Precision):
            msg = f"settings.precision must be 'float32' or 'bfloat16', got {precision!r}"
            raise ValueError(msg)
        self._precision = precision

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
