from __future__ import annotations

import os
from pathlib import Path

import pytest

from isost import _writing
from isost._writing import whole_file, whole_folder


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "array.npy"
    for content in (b"first", b"second"):
        with whole_file(target) as unfinished:
            assert (unfinished.parent, unfinished.suffix) == (target.parent, ".npy")
            unfinished.write_bytes(content)
            assert not target.exists() or target.read_bytes() == b"first"
        assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["array.npy"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with whole_file(target) as unfinished:
            unfinished.write_text("ne")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "volume.zarr"
    for content in ("first", "second"):
        with whole_folder(target) as unfinished:
            assert (unfinished.parent, unfinished.suffix) == (target.parent, ".zarr")
            unfinished.mkdir()
            (unfinished / "a").write_text(content)
            assert not target.exists() or (target / "a").read_text() == "first"
        assert (target / "a").read_text() == content
    assert [path.name for path in target.parent.iterdir()] == ["volume.zarr"]


def test_a_stop_before_the_old_folder_is_gone_leaves_the_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, elsewhere = tmp_path / "volume.zarr", tmp_path / "elsewhere"
    elsewhere.mkdir()
    target.symlink_to(elsewhere)
    monkeypatch.setattr(_writing, "remove", lambda path: None)
    for content in ("first", "second"):
        with whole_folder(target) as unfinished:
            unfinished.mkdir()
            (unfinished / content).touch()
        assert [path.name for path in target.iterdir()] == [content]
    assert not list(elsewhere.iterdir())


def test_what_has_its_final_name_is_on_disk_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noted(number: int) -> None:
        fsync(number)
        path = Path(f"/proc/self/fd/{number}").readlink()
        synced.append((str(path.relative_to(tmp_path)), any(tmp_path.glob("[!.]*"))))

    monkeypatch.setattr(os, "fsync", noted)
    with whole_folder(tmp_path / "v.zarr") as folder:
        (folder / "c").mkdir(parents=True)
        (folder / "c" / "0").write_text("chunk")
    hidden = folder.name
    assert synced == [(f"{hidden}/c/0", False), (f"{hidden}/c", False), (hidden, False), (".", True)]
    (tmp_path / "v.zarr").rename(tmp_path / ".v")
    synced.clear()
    with whole_file(tmp_path / "a.txt") as file:
        file.touch()
    assert synced == [(file.name, False), (".", True)]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, flags: int) -> int:
        raise PermissionError(path)

    monkeypatch.setattr(os, "open", refused)
    with whole_file(tmp_path / "a.txt") as file:
        file.write_text("whole")
    assert (tmp_path / "a.txt").exists()
