from __future__ import annotations

import torch

from isost.training import sampled_tiles, spatial_tiles


def test_tiles_cover_every_cell_once_and_keep_density() -> None:
    sections = [
        torch.rand(n, 5, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        for k, n in enumerate((400, 350, 90))
    ]
    for generator in (None, torch.Generator().manual_seed(0)):
        tiles = spatial_tiles(sections, batch_size=60, generator=generator)
        for k, section in enumerate(sections):
            rows = torch.cat([tile[k] for tile in tiles])
            assert torch.equal(rows.sort().values, torch.arange(len(section)))
        assert max(len(rows) for tile in tiles for rows in tile) <= 60
    for tile in spatial_tiles(sections, batch_size=60):
        inside = sections[0][tile[0], :2]
        low, high = inside.amin(0), inside.amax(0)
        in_box = ((sections[0][:, :2] >= low) & (sections[0][:, :2] <= high)).all(1)
        assert torch.equal(in_box.nonzero().squeeze(1), tile[0])


def test_tiles_of_cells_at_one_place_still_end() -> None:
    tiles = spatial_tiles([torch.zeros(50, 5), torch.zeros(40, 5)], batch_size=8)
    assert max(len(rows) for tile in tiles for rows in tile) <= 8


def test_some_tiles_of_a_section() -> None:
    section = torch.rand(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def drawn(n_cells: int) -> torch.Tensor:
        return torch.cat(sampled_tiles(section, n_cells, batch_size=60, generator=torch.Generator().manual_seed(1)))

    assert torch.equal(drawn(1000).sort().values, torch.arange(400))
    assert 100 <= len(drawn(150)) <= 200
    assert len(drawn(150).unique()) == len(drawn(150))
    assert 0 < len(drawn(1)) <= 60
