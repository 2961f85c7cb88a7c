"""Files as an attacker, a broken disk or a bad copy would have them: read rightly, or refused in words, and no more.

Files of every kind that isost reads are damaged at random, in their bytes and in what they say. While they are read
nothing may be run, nothing written elsewhere, and no more than two GiB of memory taken. `make fuzz` tries 25 times as
many.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import sys
import warnings
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import joblib
import numpy as np
import pytest
import torch
import yaml
import zarr
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, VLenUTF8
from numcodecs.pickles import Pickle
from zarr.codecs import BloscCodec

import isost
from isost import compat
from isost.compat._inference import frame_paths
from isost.compat._tensors import read_tensors
from isost.io._stored import check_hdf5, check_zarr
from isost.training import LoopSettings, save_checkpoint
from isost.training._loop import _resumed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPARE = 2 * 2**30
WATCHED = {"os.system", "os.exec", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "subprocess.Popen"}
OF_DASK = ("anndata", "dask", "h5py", "isost", "numcodecs.blosc", "numpy", "pathlib", "scipy", "zarr")  # it pickles
CONFIG = """
trainer: IsoST
params: {gene_dim: 3, hidden_dim: 8, delta_d: 0.05, stride: 1, dual: true, lr: 1e-3, optimizer_name: Adam}
"""
events: list[str] | None = None


def watch(event: str, args: tuple[Any, ...]) -> None:
    written = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    relative = (
        event in ("os.remove", "os.rmdir") and args[1] != -1
    )  # inside a folder that is removed, which is watched itself
    loaded = event == "pickle.find_class" and not args[0].startswith(OF_DASK)
    if events is not None and ((event in WATCHED and not relative) or written or loaded):
        events.append(f"{event} {args}")


sys.addaudithook(watch)


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Nothing is unpickled or run, nothing outside the folder is written, and memory grows by no more than two GiB."""
    global events
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE, before[1]))
    events = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        seen = [event for event in events if str(folder) not in event]
    finally:
        events = None
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert not seen, seen


def read_or_refused(read: Callable[[Path], Any], path: Path, folder: Path) -> None:
    """Read; what is raised must be an error that the reader documents, in words that name the file."""
    said = str(folder)
    with guarded(folder):
        try:
            read(path)
        except (ValueError, FileNotFoundError, MemoryError) as error:
            said = str(error)
    assert str(folder) in said


class Tripwire:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file of every kind."""
    folder = tmp_path_factory.mktemp("seeds")
    sections = isost.datasets.organ(n_sections=3, cells_per_section=40, n_genes=20)
    stack = isost.pp.slice_stack(dict(zip("abc", sections, strict=True)), n_comps=3)
    model = isost.tl.fit(stack, epochs=1, hidden_dim=8, n_cells=10, progress=False)
    model.save(folder / "model")
    isost.io.write(sections[0], folder / "a.h5ad")
    isost.io.write(sections[0], folder / "a.zarr")
    volume = isost.tl.reconstruct(stack, model=model, voxel_size=60, store=folder / "v.zarr")
    cells = AnnData(obs=stack.obs[["section"]], obsm={"spatial": stack.obsm["spatial"]})
    isost.io.to_spatialdata(volume, {"all": cells}, channels="density").write(folder / "s.zarr")
    isost.io.SlabFolder(folder / "w.zarr", "mine").write(0, isost.io.read(folder / "a.h5ad"))
    compat.write_stack(stack, folder / "data")
    joblib.dump(Tripwire(folder / "ran"), folder / "data" / "pca.pkl")
    (folder / "run").mkdir()
    config = folder / "run" / "config.yml"
    config.write_text(CONFIG)
    compat.biaxial_train(config.parent, folder / "data", list("abc"), 1, config, "cpu", 1, 1, [1], progress=False)
    network, optimizer = a_network()
    progress = {"fingerprint": "mine", "phase": 0, "epoch": 1, "iteration": 1, "step": 1, "history": [{"loss": 1.0}]}
    save_checkpoint(folder / "state", modules={"net": network}, optimizer=optimizer, progress=progress)
    return folder


def a_network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.NAdam(network.parameters())
    make_step(network, optimizer)
    return network, optimizer


def make_step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(torch.ones(2)).sum().backward()
    optimizer.step()


def resume(path: Path) -> None:
    network, optimizer = a_network()
    _resumed(path, {"net": network}, optimizer, LoopSettings(epochs=1, fingerprint="mine"))
    make_step(network, optimizer)


def join(path: Path) -> None:
    folder = isost.io.SlabFolder(path.parent.parent / "w.zarr", "mine")
    if not folder.missing(1):
        folder.join(1, AnnData())


def read_stack(path: Path) -> AnnData:
    return compat.read_stack(path.parent, list("abc"), decode=True)


def load_checkpoint(path: Path) -> isost.IsoST:
    return compat.load_checkpoint(path.parent)


# what is damaged, and what reads it
KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config": ("run/config.yml", compat.read_config),
    "published model": ("run/model.pt", load_checkpoint),
    "record": ("run/resume.json", load_checkpoint),
    "section": ("data/shuffled_a.pt", read_stack),
    "minimum": ("data/min_dic.csv", read_stack),
    "genes": ("data/gene.csv", read_stack),
    "pca": ("data/pca.npz", compat.convert_pca),
    "pickle": ("data/pca.pkl", compat.convert_pca),
    "stack": ("data/stack.json", read_stack),
    "rows": ("data/rows.npz", read_stack),
    "model": ("model/model.json", lambda path: isost.IsoST.load(path.parent)),
    "weights": ("model/weights.safetensors", lambda path: isost.IsoST.load(path.parent)),
    "checkpoint": ("state", resume),
    "slab": ("w.zarr.part/slab-0.h5ad", join),
    "h5ad": ("a.h5ad", isost.io.read),
    "lazy h5ad": ("a.h5ad", lambda path: isost.io.read(path, lazy=True)),
    "zarr": ("a.zarr/.zgroup", lambda path: isost.io.read(path.parent)),
    "spatialdata": ("s.zarr/zarr.json", lambda path: isost.io.read_sections(path.parent)),
    "volume": ("v.zarr/.zgroup", lambda path: isost.io.read_volume(path.parent)),
}
VALUES: list[Any] = [None, True, -1, 0, 1e300, 10**12, 10**30, float("nan"), "", "1e999", [], {}, [[[]]], {"a": 1}]
VALUES += ["../../x", "__import__('os')", "!!python/object/apply:os.system [true]", "pickle", "|O", "a" * 999, [1, "a"]]
BYTES = [b"", b"\xff" * 8, b"999999999999", b"nan", b"*a", b"&a [*a]", b'"', b"[" * 3000, b"\0", b"2147483648"]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, left out, doubled or put in, or one thing that it says replaced."""
    if content.lstrip()[:1] in (b"{", b"t") and (said := yaml.safe_load(content)) and draw(st.booleans()):
        return said_otherwise(draw, said)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 1, 4, 64, 10**9])))
        inside = draw(st.one_of(st.binary(max_size=9), st.just(content[start:stop] * 2), st.sampled_from(BYTES)))
        content = content[:start] + inside + content[stop:]
    return content


def said_otherwise(draw: st.DrawFn, content: Any) -> bytes:
    place = content
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key] and draw(st.booleans())):
            place[key] = draw(st.sampled_from(VALUES))
            return json.dumps(content).encode()
        place = place[key]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str, seeds: Path, tmp_path: Path) -> None:
    file, read = KINDS[kind]
    top = Path(file).parts[0]
    sources = [seeds / file] if ".zarr/" not in file else sorted(p for p in (seeds / top).rglob("*") if p.is_file())

    def restored() -> Path:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        (shutil.copytree if (seeds / top).is_dir() else shutil.copyfile)(seeds / top, tmp_path / top)
        return tmp_path / file

    if kind != "pickle":
        read(restored())

    @settings(max_examples=settings.default.max_examples * 3 // 10, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        path, source = restored(), data.draw(st.sampled_from(sources))
        (tmp_path / source.relative_to(seeds)).write_bytes(data.draw(damaged(source.read_bytes())))
        read_or_refused(read, path, tmp_path)

    check()
    assert not (seeds / "ran").exists()


ALIASES = "a: &a [1, 1]\nb: &b [*a, *a]\nparams: {gene_dim: *b, hidden_dim: 8}"


def h5ad_with(change: Callable[[h5py.File], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "a.h5ad", "r+") as file:
            change(file)
        return folder / "a.h5ad"

    return write


def claims(file: h5py.File) -> None:
    file["uns"].create_dataset("claimed", shape=(10**12,), chunks=(10**6,), dtype="f8")


def claims_expression(file: h5py.File, *, encoding: str = "array", chunk: int = 10**6) -> None:
    claimed = file["layers"].create_dataset("claimed", shape=(10**12,), chunks=(chunk,), dtype="f8")
    claimed.attrs.update({"encoding-type": encoding, "encoding-version": "0.2.0"})


def hard_links(file: h5py.File) -> None:
    file["uns/0"] = file["X/data"]
    for i in range(1, 12):
        group = file["uns"].create_group(str(i))
        for name in range(10):
            group[str(name)] = file[f"uns/{i - 1}"]


def soft_links(file: h5py.File) -> None:
    file["uns"].create_dataset("zeros", shape=(10**8,), chunks=(10**6,), dtype="f8")
    for i in range(1000):
        file[f"uns/{i}"] = h5py.SoftLink("/uns/zeros")


def holds_itself(file: h5py.File) -> None:
    file["uns/a/b"] = h5py.SoftLink("/uns")


def links(file: h5py.File) -> None:
    file["uns/linked"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def borrows(file: h5py.File) -> None:
    file["uns"].create_dataset("borrowed", shape=(9,), dtype="u1", external=[("/etc/passwd", 0, 9)])


def pickled_zarr(folder: Path) -> Path:
    shutil.rmtree(folder / "a.zarr")
    root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    root.create_array("x", shape=(1,), dtype=str, filters=[VLenUTF8(), Pickle()], compressors=None)
    (folder / "a.zarr" / "x" / "0").write_bytes(pickle.dumps(Tripwire(folder / "ran")))
    return folder / "a.zarr"


def cut_off_zarr(folder: Path, *, zarr_format: Literal[2, 3]) -> Path:
    root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=zarr_format)
    root.create_array("x", data=np.arange(100.0), compressors=Blosc() if zarr_format == 2 else BloscCodec())
    chunk = folder / "a.zarr" / "x" / ("0" if zarr_format == 2 else "c/0")
    chunk.write_bytes(chunk.read_bytes()[:20])  # which Blosc would read beyond
    return folder / "a.zarr"


def claiming_zarr(folder: Path, *, shape: int = 10**12, chunks: int = 10**6) -> Path:
    root = zarr.open_group(folder / "a.zarr", mode="w")
    root.create_array("obsm/x", shape=(shape,), chunks=(chunks,), dtype="f8")
    return folder / "a.zarr"


def claiming_table(folder: Path) -> Path:
    table = zarr.open_group(folder / "s.zarr" / "tables" / "all", mode="r+", use_consolidated=False)
    table.create_array("obsm/x", shape=(10**12,), chunks=(10**6,), dtype="f8")  # not in what the root says of it
    return folder / "s.zarr"


def unstored_tensor(folder: Path) -> Path:
    torch.save(torch.ones(1, 1).expand(10**12, 6), folder / "a.pt")
    return folder / "a.pt"


def zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**24))
    return folder / "a.pt"


def text(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def deep_model(folder: Path) -> Path:
    path = folder / "model" / "model.json"
    content = json.loads(path.read_text())
    content["settings"]["unet_depth"] = 2**19
    path.write_text(json.dumps(content))
    return folder / "model"


def many_frames(folder: Path) -> Path:
    (folder / "0_forward.npy").touch()
    (folder / "frames.json").write_text(json.dumps({"n_frames": 10**12}))
    return folder


ATTACKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], str]] = {
    "aliases of YAML": (text("c.yml", ALIASES), compat.read_config, "has YAML aliases"),
    "large config": (text("c.yml", "#" * 2**21), compat.read_config, "larger than a config"),
    "tensor without its numbers": (unstored_tensor, read_tensors, "without all of its numbers"),
    "zip bomb": (zip_bomb, read_tensors, "claims to unpack to 16,777,216 bytes"),
    "h5ad that claims 8 TB": (h5ad_with(claims), isost.io.read, r"would take 74\d\d GiB .* a machine with more"),
    "expression that claims 8 TB": (h5ad_with(claims_expression), isost.io.read, r"would take 74\d\d GiB .* lazy=True"),
    "layer that is read all the same": (
        h5ad_with(partial(claims_expression, encoding="")),
        partial(isost.io.read, lazy=True),
        r"would take 74\d\d GiB .* a machine with more",
    ),
    "layer of as many chunks as numbers": (
        h5ad_with(partial(claims_expression, chunk=1)),
        partial(isost.io.read, lazy=True),
        r"would take \S+ GiB .* a machine with more",
    ),
    "h5ad of one array by many hard links": (h5ad_with(hard_links), isost.io.read, r"would take \S+ GiB"),
    "h5ad of one array by many soft links": (h5ad_with(soft_links), isost.io.read, r"would take 745\.\d GiB"),
    "h5ad that holds itself": (h5ad_with(holds_itself), isost.io.read, "uns/a/b is a link to what holds it"),
    "h5ad with a link": (h5ad_with(links), isost.io.read, "uns points into other files"),
    "h5ad with another file's bytes": (h5ad_with(borrows), isost.io.read, "uns/borrowed points into other files"),
    "zarr of pickles": (pickled_zarr, isost.io.read, "x is pickled, and a pickle could run any program"),
    "zarr that claims 8 TB": (claiming_zarr, isost.io.read, r"would take 74\d\d GiB"),
    "zarr of a chunk of 8 TB": (
        partial(claiming_zarr, shape=40, chunks=10**12),
        isost.io.read,
        r"would take 74\d\d GiB",
    ),
    "zarr 2 of a chunk that is cut off": (
        partial(cut_off_zarr, zarr_format=2),
        isost.io.read,
        r"a\.zarr is damaged: the chunk x/0 is not",
    ),
    "zarr 3 of a chunk that is cut off": (
        partial(cut_off_zarr, zarr_format=3),
        isost.io.read,
        r"a\.zarr is damaged: the chunk x/c/0 is not",
    ),
    "table that claims 8 TB": (claiming_table, isost.io.read_sections, r"tables/all would take 74\d\d GiB"),
    "model without end": (deep_model, isost.IsoST.load, "impossible settings: unet_depth"),
    "frames without end": (many_frames, frame_paths, r"lacks the frame 1_forward\.npy"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_named(attack: str, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read, words = ATTACKS[attack]
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # as older ones always do
    shutil.copytree(seeds, tmp_path, dirs_exist_ok=True)
    path = write(tmp_path)
    with guarded(tmp_path), pytest.raises((ValueError, FileNotFoundError), match=words):
        read(path)
    assert not (tmp_path / "ran").exists()


def test_the_largest_chunk_is_counted_and_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr("isost.io._stored.check_memory", lambda path, n_bytes, **_: counted.append(n_bytes))
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        for name, n in {"X": 2**20, "a": 2**18}.items():
            file.create_dataset(name, shape=(1,), maxshape=(None,), chunks=(n,), dtype="f8")
            root.create_array(name, shape=(1,), chunks=(n,), dtype="f8")
        for unread in ((), ("X",)):
            check_hdf5(tmp_path, file, unread=unread)
            check_zarr(tmp_path, root, unread=unread)
    assert all(2**23 < n < 2**23 + 2**12 for n in counted)


def test_slabs_are_not_written_through_a_link(seeds: Path, tmp_path: Path) -> None:
    shutil.copytree(seeds / "w.zarr.part", tmp_path / "elsewhere")
    (tmp_path / "w.zarr.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"w\.zarr\.part holds parts of another volume"):
        isost.io.SlabFolder(tmp_path / "w.zarr", "mine")
