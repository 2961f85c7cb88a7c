"""The interactive page as a reader meets it, in a headless Chromium."""

from __future__ import annotations

import io
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import isost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Organ

GRAPH = "document.querySelector('.js-plotly-plot')"
SHOWN_DEPTHS = f"[...new Set({GRAPH}._fullData.filter(t => t.visible === true).flatMap(t => [...t.z]))]"
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--window-size=900,700",
    # WebGL without a graphics card
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@pytest.fixture(scope="module")
def browser(skip_unless: Callable[..., None]) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    missing = "there is no selenium (isost[test]), or no chromium with its chromedriver on the path"
    skip_unless(all((find_spec("selenium"), chromium, driver)), missing, required_by="ISOST_REQUIRE_BROWSER")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()


@pytest.fixture(scope="module")
def page(browser: Any, organ: Organ, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("page") / "page.html"
    figure = isost.pl.volume(organ.volume, color="Lining-1", unit="µm", backend="plotly")
    figure.write_html(path, include_plotlyjs=True)
    browser.get(path.as_uri())
    wait_until(browser, f"return !!({GRAPH} && {GRAPH}._fullLayout.scene._scene)")
    return browser


def wait_until(browser: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda window: window.execute_script(script))


def tissue(page: Any) -> np.ndarray:
    """Pixels (n, 3) of the 3D view that are coloured."""
    shot = np.asarray(Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB"), dtype=int)[80:500, :700]
    return shot[np.ptp(shot, axis=-1) > 60]


def eye(page: Any) -> np.ndarray:
    at = page.execute_script(f"return {GRAPH}._fullLayout.scene._scene.getCamera().eye")
    return np.array([at["x"], at["y"], at["z"]])


def test_it_renders(page: Any) -> None:
    wait_until(page, f"return {GRAPH}._fullData.length > 0")
    assert len(tissue(page)) > 1000
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_drag_orbits_around_it(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    before = eye(page)
    graph = page.find_element(By.CSS_SELECTOR, ".js-plotly-plot")
    ActionChains(page).move_to_element(graph).click_and_hold().move_by_offset(120, 30).release().perform()
    after = eye(page)
    assert np.linalg.norm(after - before) > 0.3
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.05)  # turned, not zoomed


def test_the_slider_shows_one_layer(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    assert page.execute_script(f"return {SHOWN_DEPTHS}.length") > 1
    rail = page.find_element(By.CSS_SELECTOR, ".slider-rail-touch-rect")
    ActionChains(page).move_to_element(rail).click().perform()
    wait_until(page, f"return {SHOWN_DEPTHS}.length == 1")
    (depth,) = page.execute_script(f"return {SHOWN_DEPTHS}")
    label = page.find_element(By.CSS_SELECTOR, ".slider-label").text
    assert label.startswith(f"depth: {depth:g} µm")
    assert len(tissue(page)) > 1000


def test_the_mouse_reads_a_voxel(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    graph = page.find_element(By.CSS_SELECTOR, ".js-plotly-plot")
    for across in range(-150, 151, 20):  # past the cavity in the middle
        ActionChains(page, duration=50).move_to_element_with_offset(graph, across, -40).pause(0.3).perform()
        read = page.find_elements(By.CSS_SELECTOR, ".hovertext")
        if read:
            break
    for said in ("Lining-1:", "µm", "density:", "uncertainty:", "section_distance:"):
        assert said in read[0].text
