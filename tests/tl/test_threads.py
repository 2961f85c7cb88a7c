from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import isost
from isost.tl._threads import few_threads

if TYPE_CHECKING:
    import pytest


def test_the_callers_threads_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isost.settings, "n_threads", 3)
    before = torch.get_num_threads()
    seen = []

    @few_threads()
    def work() -> None:
        seen.append(torch.get_num_threads())
        raise RuntimeError

    for _ in range(2):
        try:
            work()
        except RuntimeError:
            seen.append(torch.get_num_threads())
    assert seen == [3, before] * 2
