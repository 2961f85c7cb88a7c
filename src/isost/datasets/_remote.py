from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REMOTE", "Remote", "fetch"]


@dataclass(frozen=True)
class Remote:
    """A file that is downloaded when it is first asked for.

    Attributes
    ----------
    url
        Address.
    sha256
        Checksum of the file that the rest of the package was written for; any other is refused.
    """

    url: str
    sha256: str


REMOTE = {
    # the file and checksum of squidpy.datasets.merfish
    "merfish_poa.h5ad": Remote(
        "https://exampledata.scverse.org/squidpy/merfish.h5ad",
        "371723d48413ba76aba49ccf7ea24867b1db940529216fe2902484f5c2a48904",
    ),
}
"""All that is ever downloaded, by the name it is kept under."""


def fetch(name: str) -> Path:
    """Download a file of `REMOTE` unless it is there, and return where it is.

    Files are kept in ``$ISOST_CACHE_DIR`` or, without it, in the user's cache.

    Raises
    ------
    ValueError
        If what came is not the file with this checksum.
    requests.exceptions.RequestException
        If nothing came.
    """
    import pooch

    remote = REMOTE[name]
    folder = os.environ.get("ISOST_CACHE_DIR") or pooch.os_cache("isost")
    return Path(pooch.retrieve(remote.url, f"sha256:{remote.sha256}", fname=name, path=folder))
