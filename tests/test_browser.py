"""Pages of the rendered book in headless Chromium, as a reader without a network sees them.

The tests that are not marked as long are the gates of CI: the landing page, the ledger, the first look and
two chapters. `make browser` opens every page.

Chromium is that of the machine, or else one that Selenium downloads. If there is neither, these tests are
skipped and say so; with SEGCONF_BROWSER=required they fail.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
AXE = Path(__file__).with_name("axe")  # its version and hash
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTHS = (1280, 390)
PAGES = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path.name not in {"genindex.html", "search.html", "index.html"}
)
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
GATES = ["intro.html", "claims.html", "first_look.html"]
GATES += [page for page in CHAPTERS if re.search("/(01|10)_", page)]
GATED_WIDTHS = (1440, 768, 390)
FIT_S = 30
# A telephone widens its window for a page that is too wide, so the window is no measure.
INSIDE = "const page = document.documentElement; return page.scrollWidth <= page.clientWidth"
WAIT_S = 180  # of a busy machine; an idle one needs a few seconds

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="the book is not built: make book"
)
every_page = pytest.mark.long


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    """The site on a free port of this machine."""
    handler = functools.partial(QuietHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = None
    if BROWSER and DRIVER:
        options.binary_location = BROWSER
        service = Service(DRIVER)
    os.environ |= {"SE_AVOID_STATS": "true", "SE_TIMEOUT": os.environ.get("SE_TIMEOUT", "120")}
    try:
        driver = webdriver.Chrome(options=options, service=service)
    except WebDriverException as error:
        state = "do not start" if service else "are not installed, and Selenium could not download them"
        reason = (
            f"No browser: chromium and chromedriver {state}. Debian: apt install chromium chromium-driver"
        )
        reason += f" ({error.msg})"
        (pytest.fail if os.environ.get("SEGCONF_BROWSER") == "required" else pytest.skip)(reason)
    driver.set_script_timeout(WAIT_S)
    yield driver
    driver.quit()


def resize(browser, width, touch=False):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


UNFOLD = "document.querySelectorAll('details.book-result').forEach(each => { each.open = true; })"


def open_page(browser, url, width, touch=None, folded=False):
    """Load a page at a width and wait until its figures and formulas are there; return its requests.

    What answers a prompt is unfolded unless it is asked for as a new reader finds it.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    browser.get_log("performance"), browser.get_log("browser")
    resize(browser, width, touch=width < 500 if touch is None else touch)
    browser.get(url)
    ready = """
        const figures = [...document.querySelectorAll('.book-figure')];
        const formulas = [...document.querySelectorAll('.math')];
        return document.readyState === 'complete'
            && figures.every(f => f.querySelector('svg.main-svg'))
            && (formulas.length === 0 || document.querySelector('mjx-container') !== null)"""
    WebDriverWait(browser, WAIT_S).until(lambda b: b.execute_script(ready), "figures or formulas not drawn")
    if not folded:
        browser.execute_script(UNFOLD)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@every_page
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_page(browser, address, page, width):
    requests = open_page(browser, f"{address}/{page}", width)
    local = (address, "data:", "blob:", "about:", "chrome:")
    assert [url for url in requests if not url.startswith(local)] == [], "requests to another host"
    assert errors(browser) == []
    inside = browser.execute_script(INSIDE)
    assert inside, "the page scrolls sideways"
    failed = browser.execute_script(
        "return [...document.querySelectorAll('mjx-merror, .MathJax_Error')].map(e => e.textContent)"
    )
    assert failed == [], "formulas that MathJax could not set"


@every_page
@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_has_figures_that_say_what_they_show(browser, address, page):
    open_page(browser, f"{address}/{page}", WIDTHS[0])
    figures = "[...document.querySelectorAll('.book-figure [role=img]')]"
    labels = browser.execute_script(f"return {figures}.map(e => e.getAttribute('aria-label'))")
    assert labels
    assert all(labels)


FIT = """
    const inside = (inner, outer) => inner.left >= outer.left - 2 && inner.right <= outer.right + 2;
    return [...document.querySelectorAll('.book-figure')].flatMap(box => {
        const frame = box.getBoundingClientRect();
        const texts = [...box.querySelectorAll('svg text')].filter(t => t.textContent.trim());
        const cut = texts.filter(t => !inside(t.getBoundingClientRect(), frame)).map(t => t.textContent);
        const wide = box.scrollWidth > box.clientWidth || frame.right > window.innerWidth;
        return wide || cut.length ? [[box.querySelector('.js-plotly-plot').id, box.scrollWidth, cut]] : [];
    })"""


SETTLED = """return [...document.querySelectorAll('.book-figure')]
    .every(f => Boolean(f.narrow) === (f.clientWidth < 560))"""


def cut_figures(browser, width):
    return [each for each in browser.execute_script(FIT) if width != 768 or each[2]]


@pytest.mark.parametrize("page", GATES)
def test_a_page_at_three_widths(browser, address, page):
    """No request to another host, no error, nothing wider than the page, no figure that is cut."""
    from selenium.webdriver.support.ui import WebDriverWait

    requests = open_page(browser, f"{address}/{page}", GATED_WIDTHS[0])
    local = (address, "data:", "blob:", "about:", "chrome:")
    assert [url for url in requests if not url.startswith(local)] == [], "requests to another host"
    for width in GATED_WIDTHS:
        resize(browser, width)
        WebDriverWait(browser, WAIT_S).until(lambda b: b.execute_script(SETTLED), "a figure keeps its layout")
        inside = browser.execute_script(INSIDE)
        assert inside, f"the page scrolls sideways at {width} pixels"
        # A figure takes its new size a moment after the page. Between the two layouts it may scroll
        # in its box, which the keyboard reaches.
        last = time.monotonic() + FIT_S
        while (cut := cut_figures(browser, width)) and time.monotonic() < last:
            time.sleep(0.2)
        assert cut == [], f"at {width} pixels"
    assert errors(browser) == []


@pytest.fixture(scope="session")
def axe():
    """The script of axe-core, in the version and with the hash of its lock file."""
    folder = ROOT / "_build" / "axe" / os.environ.get("PYTEST_XDIST_WORKER", "one")
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(AXE / name, folder)
        try:
            subprocess.run(
                ["npm", "ci", "--silent"], cwd=folder, check=True, timeout=120, capture_output=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = f"axe-core cannot be had: npm cannot install it ({error})"
            (pytest.fail if os.environ.get("SEGCONF_BROWSER") == "required" else pytest.skip)(reason)
    return script.read_text("utf-8")


# What Plotly draws is one image with a text alternative, and its many parts would take minutes. So would the
# sections of single claims in the ledger, which are alike: ten of them stay.
VIOLATIONS = """
    const done = arguments[0];
    [...document.querySelectorAll("section section section")].slice(10).forEach(each => each.remove());
    const bad = new Set(["serious", "critical"]);
    const part = node => `${node.target.join(" ")}: ${node.failureSummary}`;
    axe.run({exclude: [[".js-plotly-plot"]]}, {resultTypes: ["violations"]}).then(found => done(
        found.violations.filter(each => bad.has(each.impact))
            .map(each => [each.id, each.help, each.nodes.length, each.nodes.slice(0, 3).map(part)])))"""


@pytest.mark.parametrize("page", [page for page in GATES if page != "first_look.html"])
def test_axe_finds_nothing_serious(browser, address, axe, page):
    open_page(browser, f"{address}/{page}", 1280)
    browser.execute_script(axe)
    assert browser.execute_async_script(VIOLATIONS) == []


@pytest.mark.parametrize(("page", "width"), [(CHAPTERS[:1], 390), (CHAPTERS[-1:], 768)])
def test_a_swipe_on_a_figure_moves_the_page(browser, address, page, width):
    """On a touch screen: no figure of a chapter takes the finger for itself."""
    open_page(browser, f"{address}/{page[0]}", width, touch=True)
    stuck = []
    figures = browser.execute_script("return [...document.querySelectorAll('.book-figure .js-plotly-plot')]")
    for figure in figures:
        x, y, before, name = browser.execute_script(
            """arguments[0].scrollIntoView({block: "center", behavior: "instant"});
            const box = arguments[0].getBoundingClientRect();
            return [Math.round(box.x + box.width / 2), Math.round(Math.min(700, box.y + box.height / 2)),
                    window.scrollY, arguments[0].id]""",
            figure,
        )
        path = [[{"x": x, "y": y - 20 * k}] for k in range(9)]
        for kind, points in [
            ("touchStart", path[0]),
            *(("touchMove", p) for p in path[1:]),
            ("touchEnd", []),
        ]:
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        if browser.execute_script("return window.scrollY") < before + 75:
            stuck.append(name)
    assert figures
    assert stuck == []


def test_the_slider_of_a_figure_obeys_the_keyboard(browser, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    chapter = next(page for page in CHAPTERS if "/01_" in page)
    open_page(browser, f"{address}/{chapter}", 1280)
    slider = browser.find_element(By.CSS_SELECTOR, ".book-slider input")
    state = """const box = arguments[0].closest(".book-figure");
        return [box.querySelector(".gtitle").textContent, box.querySelector("output").textContent,
                arguments[0].getAttribute("aria-valuetext")]"""
    first = browser.execute_script(state, slider)
    slider.send_keys(Keys.RIGHT)
    second = browser.execute_script(state, slider)
    assert all(a != b for a, b in zip(first, second, strict=True))
    slider.send_keys(Keys.LEFT)
    assert browser.execute_script(state, slider) == first


def test_a_result_is_folded_until_the_reader_has_guessed(browser, address):
    """With the keyboard: a guess, its result, a reload, the guess removed; then a link into a fold."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    url = f"{address}/{next(page for page in CHAPTERS if '/10_' in page)}"
    open_page(browser, url, 1280)
    browser.execute_script("localStorage.clear()")
    open_page(browser, url, 1280, folded=True)
    find = functools.partial(browser.find_element, By.CSS_SELECTOR)
    figure = "#result-1 .js-plotly-plot, #result-1 table"
    assert not find(figure).is_displayed()
    assert find(".book-predict input").accessible_name == "Your guess:"
    find(".book-predict input").send_keys(Keys.ENTER)
    assert "write a guess" in find(".book-predict [role=status]").text
    assert not find(figure).is_displayed()
    find(".book-predict input").send_keys("four <b>networks</b>", Keys.ENTER)
    assert find(figure).is_displayed()
    said = "document.activeElement.firstChild.textContent + document.activeElement.children[0].textContent"
    assert browser.execute_script(f"return {said}") == "You wrote: four <b>networks</b>"
    summary = find("#result-2 > summary")
    assert "without a guess" in summary.text
    summary.send_keys(Keys.ENTER)
    assert find("#result-2 .cell_output").is_displayed()

    open_page(browser, f"{url}#after", 1280, folded=True)
    assert [find(f"#result-{k} .cell_output").is_displayed() for k in (1, 2, 3)] == [True, True, False]
    find("#result-1 button").send_keys(Keys.ENTER)
    assert not find("#result-1 .cell_output").is_displayed()
    assert browser.execute_script(
        "return document.activeElement === document.querySelector('.book-predict input')"
    )

    name = "const n = document.querySelector('#result-3 figcaption').id; location.hash = n; return n"
    browser.execute_script(name)
    assert find("#result-3 figcaption").is_displayed()
    browser.execute_script("localStorage.clear()")
    assert errors(browser) == []


def test_a_figure_is_saved_as_an_image_with_the_keyboard(browser, address, tmp_path):
    """One control per figure: a PNG of what Plotly draws, and the SVG of a diagram; neither on paper."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    open_page(browser, f"{address}/{next(page for page in CHAPTERS if '/03_' in page)}", 1280)
    place = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", place)
    buttons = browser.find_elements(By.CSS_SELECTOR, "button.book-save")
    assert len(buttons) == len(browser.find_elements(By.CSS_SELECTOR, ".book-figure"))
    names = [each.accessible_name for each in browser.find_elements(By.CSS_SELECTOR, ".book-save")]
    assert len({*names}) == len(names)
    assert all(name.startswith("Save as image: ") for name in names)
    buttons[0].send_keys(Keys.ENTER)
    browser.find_element(By.CSS_SELECTOR, "a.book-save").send_keys(Keys.ENTER)
    saved = lambda _: sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".svg"]  # noqa: E731
    WebDriverWait(browser, WAIT_S).until(saved, "nothing is saved")
    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert re.fullmatch(r"03-segmentation-distortion-figure-[\d-]+\.png", files[".png"].name)
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    assert files[".svg"].read_text("utf-8").startswith("<svg")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not buttons[0].is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert errors(browser) == []


@every_page
@pytest.mark.parametrize("page", CHAPTERS)
def test_no_figure_is_wider_than_a_narrow_page_and_no_text_is_cut(browser, address, page):
    from selenium.webdriver.support.ui import WebDriverWait

    open_page(browser, f"{address}/{page}", WIDTHS[1])
    settled = "return [...document.querySelectorAll('.book-figure')].every(f => f.narrow)"
    WebDriverWait(browser, 10).until(lambda b: b.execute_script(settled), "figures keep their wide layout")
    assert browser.execute_script(FIT) == []


@every_page
def test_a_figure_changes_its_layout_with_the_width_and_back(browser, address):
    from selenium.webdriver.support.ui import WebDriverWait

    def heights():
        figures = "[...document.querySelectorAll('.book-figure')]"
        return browser.execute_script(f"return {figures}.map(f => f.offsetHeight)")

    open_page(browser, f"{address}/{CHAPTERS[0]}", WIDTHS[0])
    first = heights()
    resize(browser, WIDTHS[1])
    WebDriverWait(browser, 10).until(lambda _: heights() != first, "the figures keep their first layout")
    resize(browser, WIDTHS[0])
    WebDriverWait(browser, 10).until(lambda _: heights() == first, "the figures keep their second layout")


@pytest.mark.parametrize("page", CHAPTERS)
def test_launch_button_opens_the_paired_notebook(page):
    name = page.removeprefix("notebooks/").removesuffix(".html")
    text = (SITE / page).read_text("utf-8")
    config = yaml.safe_load((ROOT / "book/_config.yml").read_text("utf-8"))["repository"]
    place = config["url"].removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{place}/blob/{config['branch']}/notebooks/{name}.ipynb"
    assert f'href="{link}" target="_blank"' in text


@every_page
def test_page_opens_from_the_disk_too(browser):
    for page in PAGES[:1] + PAGES[-1:]:
        requests = open_page(browser, (SITE / page).as_uri(), WIDTHS[0])
        assert [
            url for url in requests if not url.startswith(("file:", "data:", "blob:", "about:", "chrome:"))
        ] == []
        assert errors(browser) == []


@pytest.mark.parametrize("where", ["served", pytest.param("disk", marks=every_page)])
def test_the_live_page_says_what_the_networks_say_and_obeys_the_keyboard(browser, address, where):
    import live_data
    import torch
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    from segconf_lite.cohorts import phantom
    from segconf_lite.confidence import soft_dice_confidence

    if not (SITE / "_static/live/engine.js").is_file():
        pytest.skip("the book was built without npm: the live page has its pictures only")
    url = f"{address}/first_look.html" if where == "served" else (SITE / "first_look.html").as_uri()
    open_page(browser, url, WIDTHS[1])
    read = (
        "const d = document.getElementById('segconf-live').dataset; return d.values && [d.values, d.updates]"
    )
    browser.find_element(By.CSS_SELECTOR, "[data-live=start]").send_keys(Keys.ENTER)
    WebDriverWait(browser, WAIT_S).until(lambda b: b.execute_script(read), "the live network does not start")
    first = json.loads(browser.execute_script(read)[0])

    subject, number = live_data.HEARTS[0]
    k = 6 * subject + number
    image = phantom.cohort(k + 1, size=live_data.LITE.size, seed=live_data.SEED, jitter=0).images[k : k + 1]
    network = live_data.joint_network()  # trains where nothing is stored, so not without gradients
    with torch.no_grad():
        probabilities, dice, _ = network(torch.from_numpy(image))
    assert first["predicted"] == pytest.approx(dice.item(), abs=2e-3)
    assert first["softDice"] == pytest.approx(soft_dice_confidence(probabilities).item(), abs=2e-3)

    fat = browser.find_element(By.CSS_SELECTOR, "input[name=fat_signal]")
    for _ in range(45):
        fat.send_keys(Keys.LEFT)
    changed = lambda b: abs(json.loads(b.execute_script(read)[0])["softDice"] - first["softDice"]) > 0.02  # noqa: E731
    WebDriverWait(browser, WAIT_S).until(changed, "the slider changes nothing")
    assert float(browser.execute_script(read)[1]) > 3, "updates per second; a laptop reaches more than ten"
    assert browser.execute_script(INSIDE)
    assert errors(browser) == []


LIVE_FIGURES = {
    "02_measuring_trust": ("budget", "threshold"),
    "04_adversarial_confidence": ("value", "dice"),
    "05_fragility_maps": ("budget", "inside"),
    "08_attacks": ("epsilon", "FGSM"),
    "09_guarantees": ("level", "margin"),
}


def started(browser, url, width=WIDTHS[1], slow=1):
    """Open a page with something live, start it with the keyboard, and return a function of its values."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    if not (SITE / "_static/live/engine.js").is_file():
        pytest.skip("the book was built without npm: there is nothing live")
    requests = open_page(browser, url, width)
    assert [u for u in requests if "/_static/live/" in u and u.endswith(("engine.js", "network.js"))] == []
    browser.find_element(By.CSS_SELECTOR, "[data-live=start]").send_keys(Keys.ENTER)
    read = "return document.querySelector('.live').dataset.values"
    WebDriverWait(browser, slow * WAIT_S).until(lambda b: b.execute_script(read), "nothing live starts")
    return lambda: json.loads(browser.execute_script(read))


def close_to(values, wanted, tolerance=2e-3):
    assert {name: values[name] for name in wanted} == pytest.approx(wanted, abs=tolerance)


@pytest.mark.parametrize("chapter", LIVE_FIGURES)
def test_a_live_figure_says_what_torch_says_and_obeys_the_keyboard(browser, address, chapter):
    import live_data
    import numpy as np
    import torch
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    from segconf_lite.cohorts import phantom
    from segconf_lite.confidence import soft_dice_confidence
    from segconf_lite.evaluation import case_table, conformal_quantile, excess_aurc
    from segconf_lite.models import predict_probabilities
    from segconf_lite.stress import attacks

    values = started(browser, f"{address}/notebooks/{chapter}.html", slow=4)
    first, (name, changes) = values(), LIVE_FIGURES[chapter]
    unet, _ = live_data.trained()
    subject, number = live_data.HEARTS[0]
    k = 6 * subject + number
    options = {"size": live_data.LITE.size, "seed": live_data.SEED, "jitter": 0}
    heart = phantom.cohort(k + 1, scanner="A", **options).take(np.array([k]))
    probabilities = predict_probabilities(unet, heart.images)
    dice = case_table(probabilities, heart, empty="skip")["quality"][0]
    sure = soft_dice_confidence(probabilities).item()
    if chapter.startswith("02"):
        assert first["excess"] == pytest.approx(excess_aurc(first["risks"], first["uncertainty"]), abs=1e-6)
        assert (len(first["risks"]), first["coverage"]) == (36, pytest.approx(33 / 36))
        assert first["risks"][0] == pytest.approx(1 - dice, abs=2e-3)
    elif chapter.startswith("04"):
        network = live_data.joint_network()
        with torch.no_grad():
            _, predicted, _ = network(torch.from_numpy(heart.images))
        close_to(first, {"dice": dice, "softDice": sure, "predicted": predicted.item()})
    elif chapter.startswith("05"):
        numbers = (SITE / "_static/live/numbers.js").read_text("utf-8")
        layer = json.loads(numbers.split("=", 1)[1].rstrip(";\n"))["lastLayer"]
        weight = np.array(layer["weight"])[:, :-1]
        np.testing.assert_allclose(weight, unet.head.weight[:, :, 0, 0].detach().cpu(), atol=1e-6)
        assert 0 < first["inside"] < 0.5
    elif chapter.startswith("08"):
        moved = attacks.fgsm(unet, heart.images, heart.labels, eps=0.1, unit="sd", bounds=None).images
        wanted = case_table(predict_probabilities(unet, moved), heart, empty="skip")["quality"][0]
        close_to(first["no change"], {"dice": dice, "softDice": sure})
        close_to(first["FGSM"], {"dice": wanted}, tolerance=1e-2)  # a pixel may flip by rounding
    else:
        excess = live_data.calibration_excess(unet)
        assert first["margin"] == pytest.approx(conformal_quantile(excess, level=0.9), abs=1e-5)
        close_to(first["cases"][0], {"dice": dice, "softDice": sure})

    slider = browser.find_element(By.CSS_SELECTOR, f"#live-figure input[name={name}]")
    for _ in range(4):
        slider.send_keys(Keys.RIGHT if name != "value" else Keys.LEFT)
    changed = "the slider changes nothing"
    WebDriverWait(browser, WAIT_S).until(lambda _: values()[changes] != first[changes], changed)
    assert browser.execute_script(INSIDE)
    assert errors(browser) == []


def test_a_live_figure_can_be_read_in_the_dark(browser, address):
    started(browser, f"{address}/notebooks/09_guarantees.html", slow=4)
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    colour = "return getComputedStyle(document.querySelector('#live-figure svg text')).fill"
    background = "return getComputedStyle(document.body).backgroundColor"
    light = [
        sum(int(part) for part in browser.execute_script(script).split("(")[1].rstrip(")").split(",")[:3])
        for script in (colour, background)
    ]
    assert light[0] - light[1] > 300, "text of the figure and the page's background look alike"


def test_a_finger_moves_a_knob_of_the_live_page_and_not_the_page(browser, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    values = started(browser, f"{address}/first_look.html")
    first = values()
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    knob = browser.find_element(By.CSS_SELECTOR, "input[name=noise]")
    there = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(there, knob)
    where = "const r = arguments[0].getBoundingClientRect(); return [r.left, r.width, r.top + r.height / 2]"
    left, width, y = browser.execute_script(where, knob)
    scrolled = browser.execute_script("return [window.scrollX, window.scrollY]")

    def touch(kind, part):
        points = [] if part is None else [{"x": left + part * width, "y": y}]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.1)
    for part in (0.3, 0.5, 0.7, 0.9):
        touch("touchMove", part)
    touch("touchEnd", None)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert float(knob.get_attribute("value")) > 0.3
    assert browser.execute_script("return [window.scrollX, window.scrollY]") == scrolled
    WebDriverWait(browser, WAIT_S).until(lambda _: values() != first, "the swipe changes nothing")
