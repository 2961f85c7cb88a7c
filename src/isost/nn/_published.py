from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["from_published", "to_published"]

_LINEAR_MAPS = ("query", "key", "value", "skip")


def from_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of one direction, from the published program's tensor names to those of `Drift`.

    Parameters
    ----------
    state_dict
        One direction's weights as the published program saves them: names such as ``p_coo.tfc_1.lin_key.weight``
        (shape) and ``p_seq.net.down_convs.0.lin.weight`` (expression). Its checkpoints hold two such, the entries
        ``f_joint`` (forward) and ``g_joint`` (backward) beside ``iterations``.

    Returns
    -------
    The same tensors, named for ``Drift.load_state_dict``.

    Raises
    ------
    ValueError
        When a name is not one of the published program's, or one that must be there is missing.
    """
    names = _names(_depth(state_dict, "p_seq.net.pools."))
    return _rename(state_dict, {published: ours for ours, published in names.items()})


def to_published(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of one direction, from the names of `Drift` to the published program's; undoes `from_published`.

    Parameters
    ----------
    state_dict
        ``Drift.state_dict()`` of a drift with shape and expression.

    Returns
    -------
    The same tensors, named as the published program's.

    Raises
    ------
    ValueError
        When a name is not one of `Drift`'s, or one that must be there is missing.
    """
    return _rename(state_dict, _names(_depth(state_dict, "expression.pools.")))


def _depth(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    levels = [match[1] for name in state_dict if (match := re.match(re.escape(prefix) + r"(\d+)\.", name))]
    return len(levels)


def _names(depth: int) -> dict[str, str]:
    """Map each tensor name of a `Drift` whose U-Net has `depth` poolings to the published one."""
    names = {}
    for layer in range(3):
        for linear in _LINEAR_MAPS:
            for kind in ("weight", "bias"):
                names[f"shape.layers.{layer}.{linear}.{kind}"] = f"p_coo.tfc_{layer + 1}.lin_{linear}.{kind}"
    for way, count in (("down", depth + 1), ("up", depth)):
        for level in range(count):
            published = f"p_seq.net.{way}_convs.{level}"
            names[f"expression.{way}.{level}.bias"] = f"{published}.bias"
            names[f"expression.{way}.{level}.linear.weight"] = f"{published}.lin.weight"
    for level in range(depth):
        names[f"expression.pools.{level}.weight"] = f"p_seq.net.pools.{level}.select.weight"
    return names


def _rename(state_dict: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    unknown = sorted(set(state_dict) - set(names))
    missing = sorted(set(names) - set(state_dict))
    if unknown or missing:
        msg = (
            f"not the weights of one drift: unknown names {unknown}, missing names {missing}. Pass one direction, "
            "such as checkpoint['f_joint'] of a published checkpoint or model.state_dict() of a Drift"
        )
        raise ValueError(msg)
    return {new: state_dict[old] for old, new in names.items()}
