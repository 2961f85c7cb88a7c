"""What a process does that `isost.tl._launch` had torchrun start: one call of one function."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from pathlib import Path

import cloudpickle

from isost._settings import settings
from isost._writing import whole_file

from ._launch import ERROR, RESULT, TASK


def main(folder: Path) -> None:
    """Do the task in a folder, and leave there what came of it."""
    with (folder / TASK).open("rb") as file:
        function, args, kwargs, session = pickle.load(file)
    for name, value in session.items():
        setattr(settings, name, value)
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        error.add_note(traceback.format_exc())
        _leave(error, folder / ERROR)
        sys.exit(1)
    if os.environ["RANK"] == "0":
        _leave(result, folder / RESULT)


def _end_with_caller() -> None:
    """End this process as soon as the one that started it all is gone, as a notebook's is when its kernel is killed.

    Standard input is a pipe from there, to which nothing is ever written; reading returns when its other end is closed.
    A process that the caller has forked holds it open, too.
    """

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _leave(value: object, path: Path) -> None:
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        cloudpickle.dump(value, file)


if __name__ == "__main__":
    _end_with_caller()
    main(Path(sys.argv[1]))
