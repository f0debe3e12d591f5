"""The page in a real browser: it draws, filters and sorts, asks nothing of the network, and fits a phone."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec.structs
import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cuda_blocks_of, record_of, run_of

from nncore_bench.crossover.table import curves, in_words
from nncore_bench.estimate.cells import cells_of
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source
from nncore_bench.page.page import Material, page
from nncore_bench.text.format import slowdown

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
waiting = pytest.importorskip("selenium.webdriver.support.wait")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium (Debian: chromium and chromium-driver)"
)
Driver: TypeAlias = Any  # selenium has no type that all of its drivers share
EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
SIZES = (1, 32, 1024)
CUDA_FACTORS = (2.0, 0.5, 0.125)
"""CUDA takes twice as long as the host enqueues, so that it is slower, equal and faster by batch size."""

PHONE = 390
PAPER = 816
"""A sheet of letter in CSS pixels, 96 an inch; A4 is 794."""


def made_up(**changes: object) -> Source:
    """Return a run of three batch sizes on both devices, CUDA gaining with the batch."""
    cases = [replace(case, batch_size=size) for case in (CPU_CASE, CUDA_CASE) for size in SIZES]
    blocks = [block for n in range(3) for block in blocks_of(n, launches=(1.0, 1.01))]
    for n, factor in enumerate(CUDA_FACTORS, 3):
        blocks += cuda_blocks_of(n, launches=(factor, factor * 1.01))
    run = run_of([record_of(case) for case in cases], **changes)
    return Source(run, rows_of(run, blocks), [], None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Driver]:
    """Return a Chromium that writes down what it asks for and what goes wrong."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def opened(browser: Driver, folder: Path, *sources: Source) -> Driver:
    """Open the page of some runs and wait until its pictures are drawn."""
    file = folder / "report.html"
    file.write_text(page(Material(sources, "nncore-bench report")), encoding="utf-8")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(file.as_uri())
    wait = waiting.WebDriverWait(browser, 20)
    wait.until(lambda driver: driver.execute_script("return document.body.dataset.drawn") == "yes")
    return browser


def asked(browser: Driver) -> set[str]:
    """Return the addresses that the page has asked for."""
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"}


def shown_rows(browser: Driver, table: str) -> list[list[str]]:
    script = """return [...document.querySelectorAll(arguments[0] + " tbody tr")].filter(row => !row.hidden)
        .map(row => [...row.cells].map(cell => cell.textContent))"""
    rows: list[list[str]] = browser.execute_script(script, f"#table-{table}")
    return rows


def choose(browser: Driver, name: str, value: str) -> None:
    browser.execute_script(
        """const select = document.querySelector(`select[name="${arguments[0]}"]`);
        select.value = arguments[1]; select.dispatchEvent(new Event("change", {bubbles: true}));""",
        name,
        value,
    )


def test_it_opens_without_an_error_and_asks_for_nothing(browser: Driver, tmp_path: Path) -> None:
    """Every picture is drawn; the console is silent; the file itself is all that was read."""
    opened(browser, tmp_path, made_up(), made_up(id="later"))
    assert browser.get_log("browser") == []
    assert {address.partition(":")[0] for address in asked(browser)} <= {"file", "data"}
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.picture')].map(one => one.querySelectorAll('svg').length)"
    )
    assert drawn
    assert set(drawn) == {1}


def test_the_crossover_on_the_page_is_that_of_the_frame(browser: Driver, tmp_path: Path) -> None:
    """In its table and in its sentence."""
    run = made_up()
    opened(browser, tmp_path, run)
    expected = in_words(next(one for one in curves(cells_of(run.rows)) if one.mode == "resident").faster)
    assert expected.startswith("from batch ")
    assert any(expected in row for row in shown_rows(browser, "crossover"))
    assert expected in browser.execute_script("return document.querySelector('#worth').textContent")


def test_filters_leave_what_they_are_asked_for(browser: Driver, tmp_path: Path) -> None:
    """In tables and in pictures; all is back afterwards."""
    opened(browser, tmp_path, made_up())
    everything = shown_rows(browser, "phases")
    choose(browser, "batch", "32")
    filtered = shown_rows(browser, "phases")
    assert 0 < len(filtered) < len(everything)
    headings = browser.find_elements("css selector", "#table-phases th button")
    place = next(n for n, heading in enumerate(headings) if heading.text.strip() == "batch")
    assert {row[place] for row in filtered} == {"32"}
    browser.find_element("css selector", "form.filters button").click()
    wait = waiting.WebDriverWait(browser, 5)
    wait.until(lambda driver: shown_rows(driver, "phases") == everything)


def test_a_heading_sorts_its_table_by_number(browser: Driver, tmp_path: Path) -> None:
    """Up with the first click, down with the second; 1024 comes after 32."""
    opened(browser, tmp_path, made_up())
    headings = browser.find_elements("css selector", "#table-phases th button")
    place = next(n for n, heading in enumerate(headings) if heading.text.strip() == "batch")
    for order in (1, -1):
        headings[place].click()
        column = [int(row[place].replace(",", "")) for row in shown_rows(browser, "phases")]
        assert column == sorted(column)[::order]


def test_a_heading_sorts_negative_percentages_as_numbers(browser: Driver, tmp_path: Path) -> None:
    """They have a typographic minus, which JavaScript does not read as a sign."""
    opened(browser, tmp_path, made_up())
    browser.execute_script(
        """const cells = [...document.querySelectorAll("#table-phases tbody tr")].map(row => row.cells[0]);
        cells.forEach((cell, place) => cell.textContent = arguments[0][place] || "n/a");""",
        [slowdown(ratio) for ratio in (1.05, 0.88, 1.0, 0.98)],
    )
    browser.find_element("css selector", "#table-phases th button").click()
    column = [row[0] for row in shown_rows(browser, "phases")]
    assert column[:5] == [*map(slowdown, (0.88, 0.98, 1.0, 1.05)), "n/a"]


def test_markup_in_names_does_nothing(browser: Driver, tmp_path: Path) -> None:
    """No script of a name runs, and nothing is asked for."""
    run = made_up(host=EVIL)
    evil = [replace(row, case=replace(row.case, subject=EVIL)) for row in run.rows]
    code = msgspec.structs.replace(run.run.code, commit=EVIL)
    opened(browser, tmp_path, Source(msgspec.structs.replace(run.run, code=code), evil, [], None))
    assert browser.execute_script("return window.evil === undefined")
    assert {address.partition(":")[0] for address in asked(browser)} <= {"file", "data"}
    assert EVIL in browser.execute_script("return document.body.textContent")


def test_it_fits_a_phone(browser: Driver, tmp_path: Path) -> None:
    """Nothing but tables, which scroll by themselves, is wider than the screen."""
    size = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, tmp_path, made_up())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_pictures_take_the_colour_of_a_dark_scheme(browser: Driver, tmp_path: Path) -> None:
    """Their text is as light as that around them."""
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        opened(browser, tmp_path, made_up())
        fill = browser.execute_script(
            "return getComputedStyle(document.querySelector('.picture svg text')).fill"
        )
        ink = browser.execute_script("return getComputedStyle(document.body).color")
        assert fill == ink
        assert sum(int(part) for part in ink.strip("rgb()").split(",")) > 3 * 200
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_prints_all_that_it_says(browser: Driver, tmp_path: Path) -> None:
    """On paper nothing can be unfolded or scrolled: each table stands in its whole width and is seen."""
    opened(browser, tmp_path, made_up())
    seen = """
        const paper = document.documentElement.clientWidth
        return [...document.querySelectorAll('table, .picture svg')].filter(one => !one.checkVisibility(
            {contentVisibilityAuto: true}) || one.getBoundingClientRect().right > paper).length"""
    size = {"width": PAPER, "height": 1056, "deviceScaleFactor": 1, "mobile": False}
    assert browser.execute_script(seen) > 0, "nothing is folded on the screen, so this shows nothing"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.execute_script(seen) == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_reader_of_screens_has_words_for_each_picture(browser: Driver, tmp_path: Path) -> None:
    """And each table has headings that say what they are of."""
    opened(browser, tmp_path, made_up())
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.picture')].map(one => one.getAttribute('aria-label'))"
    )
    assert labels
    assert all(label and len(label) > 20 for label in labels)
    assert browser.execute_script("return document.querySelectorAll('table th:not([scope])').length") == 0
