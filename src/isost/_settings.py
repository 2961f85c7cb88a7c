from __future__ import annotations

import logging
from dataclasses import dataclass

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
        CPU threads of one call. More than one helps only on an otherwise idle machine.
    """

    progress: bool = True
    n_threads: int = 1

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
