"""The page in a real browser: boxes are dragged, a picture is drawn and read back, cancelled, a file is dropped."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from runtime import Layout, RealCompo, Region
from tests.runtime.serving.browser import CHROMIUM, DRIVER, PATIENCE, browser
from tests.runtime.serving.server import Server, serving
from tests.runtime.test_presets import KNOBS, RECIPE, distil, store

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="apt-get install chromium chromium-driver")

PROMPT = "a red ball and a blue cube"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture
def page(chrome: Chrome, server: Server) -> Iterator[Chrome]:
    """With no error in the browser's console at the end, which a breach of the content policy would be too."""
    chrome.get_log("browser")
    chrome.get(f"http://127.0.0.1:{server.port}/")
    by_id(chrome, "prompt").clear()
    by_id(chrome, "prompt").send_keys(PROMPT)
    fill(chrome, "steps", "6")
    yield chrome
    errors = [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]
    assert [one for one in errors if "status of 400" not in one] == []


def by_id(page: Chrome, name: str) -> WebElement:
    return page.find_element(By.ID, name)


def fill(page: Chrome, name: str, value: str) -> None:
    by_id(page, name).clear()
    by_id(page, name).send_keys(value)


def drag(page: Chrome, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Between two places of the picture, in fractions."""
    canvas = by_id(page, "canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width, height = canvas.size["width"], canvas.size["height"]

    def offset(place: tuple[float, float]) -> tuple[int, int]:
        return round((place[0] - 0.5) * width), round((place[1] - 0.5) * height)

    first, last = offset(start), offset(end)
    actions = ActionChains(page, duration=20).move_to_element_with_offset(canvas, *first).click_and_hold()
    actions.move_to_element_with_offset(canvas, *last).release().perform()


def saved(page: Chrome) -> dict[str, Any]:
    """What "Download layout.json" saves: the content policy lets no script read the link, so the blob is caught."""
    return json.loads(
        page.execute_async_script(
            """
            const done = arguments[0], made = URL.createObjectURL;
            URL.createObjectURL = (blob) => { blob.text().then(done); URL.createObjectURL = made; return "#"; };
            document.getElementById("saveLayout").click();
            """
        )
    )


def boxes(page: Chrome) -> list[list[float]]:
    return [region["box"] for region in saved(page)["regions"]]


def until(page: Chrome, true: Callable[[Chrome], bool]) -> None:
    WebDriverWait(page, PATIENCE, poll_frequency=0.05).until(true)


def status(page: Chrome) -> str:
    return by_id(page, "status").text


def shown_picture(page: Chrome) -> np.ndarray:
    href = by_id(page, "picture").get_attribute("href")
    source = page.execute_script("return document.getElementById('picture').getAttribute('href')") or href
    return np.asarray(Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))))


def near(found: list[float], wanted: tuple[float, ...]) -> bool:
    return bool(np.abs(np.array(found) - wanted).max() < 0.01)


def test_boxes_are_drawn_moved_resized_named_deleted_and_brought_back(page: Chrome) -> None:
    drag(page, (0.1, 0.5), (0.4, 0.9))
    (box,) = boxes(page)
    assert near(box, (0.1, 0.5, 0.4, 0.9))
    drag(page, (0.25, 0.7), (0.35, 0.6))  # its middle
    assert near(boxes(page)[0], (0.2, 0.4, 0.5, 0.8))
    drag(page, (0.5, 0.8), (0.6, 0.95))  # a handle
    assert near(boxes(page)[0], (0.2, 0.4, 0.6, 0.95))
    drag(page, (0.7, 0.1), (0.9, 0.3))
    assert [region["phrase"] for region in saved(page)["regions"]] == ["a red ball", "a blue cube"]
    words = page.find_element(By.CSS_SELECTOR, "#regions input")
    words.clear()
    words.send_keys("ball")
    assert saved(page)["regions"][0]["phrase"] == "ball"
    page.find_elements(By.CSS_SELECTOR, "#regions button")[1].click()
    assert len(boxes(page)) == 1
    by_id(page, "undo").click()
    assert len(boxes(page)) == 2


def test_the_keyboard_alone_will_do(page: Chrome) -> None:
    canvas = by_id(page, "canvas")
    page.execute_script("arguments[0].focus()", canvas)
    keys = [Keys.ENTER, *[Keys.ARROW_RIGHT] * 3, *[Keys.ARROW_UP] * 2]
    ActionChains(page).send_keys(*keys).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN).key_up(Keys.SHIFT).perform()
    assert near(boxes(page)[0], (0.33, 0.28, 0.73, 0.69))
    ActionChains(page).send_keys(Keys.DELETE).perform()
    assert boxes(page) == []
    ActionChains(page).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    assert len(boxes(page)) == 1


def test_what_is_drawn_is_what_the_library_draws(page: Chrome, pipe: RealCompo) -> None:
    drag(page, (0.1, 0.5), (0.4, 0.9))
    drag(page, (0.5, 0.1), (0.9, 0.5))
    fill(page, "seed", "5")
    by_id(page, "draw").click()
    until(page, lambda page: status(page).startswith("done"))
    layout = Layout([Region(region["phrase"], box=region["box"]) for region in saved(page)["regions"]])
    found = pipe(PROMPT, layout=layout, steps=6, seed=5, trace=True)
    assert np.array_equal(shown_picture(page), np.asarray(found.images[0]))
    points = page.execute_script("return document.getElementById('curve').getAttribute('points')").split()
    assert len(points) == len(found.trace)
    show = Select(by_id(page, "show"))
    assert [one.text for one in show.options][:2] == ["the picture", "the spatial model's weight"]
    show.select_by_value("attention-1")
    overlay = page.execute_script("return document.getElementById('overlay').getAttribute('href')")
    assert overlay.startswith("data:image/png;base64,")


def chosen(page: Chrome) -> dict[str, str]:
    names = ("preset", "gradient", "steps", "guidance")
    return {name: by_id(page, name).get_property("value") for name in names}


def test_the_page_starts_with_what_the_server_draws_with(page: Chrome) -> None:
    page.refresh()  # nobody has filled anything in
    until(page, lambda page: chosen(page)["guidance"] != "")
    assert chosen(page) == {"preset": "paper", "gradient": "exact", "steps": "50", "guidance": "7.5"}
    modes = [one.get_property("value") for one in Select(by_id(page, "gradient")).options]
    assert modes == ["exact", "surrogate", "none", "fixed:0.5", "handover", "text_to_image", "spatial"]
    assert [one.text for one in Select(by_id(page, "preset")).options] == ["paper", "fast"]


def test_a_distilled_bundle_of_some_modes(chrome: Chrome, bundle: Path, pipe: RealCompo, tmp_path: Path) -> None:
    """The page has no field for the sampler and its spacing, and draws with the recipe's."""
    own = distil(Path(shutil.copytree(bundle, tmp_path / "own")), RECIPE)
    with serving(own, "--modes", "surrogate", "--modes", "handover") as server:
        chrome.get(f"http://127.0.0.1:{server.port}/")
        until(chrome, lambda page: chosen(page)["guidance"] != "")
        assert chosen(chrome) == {"preset": "paper", "gradient": "surrogate", "steps": "3", "guidance": "1"}
        assert [one.text for one in Select(by_id(chrome, "gradient")).options] == ["surrogate", "handover"]
        assert not by_id(chrome, "alone").is_displayed()  # neither of these modes is loaded
        drag(chrome, (0.1, 0.5), (0.4, 0.9))
        by_id(chrome, "draw").click()
        until(chrome, lambda page: status(page).startswith("done"))
        layout = Layout([Region(one["phrase"], box=one["box"]) for one in saved(chrome)["regions"]])
        found = pipe(PROMPT, layout=layout, gradient="surrogate", **RECIPE)
        assert np.array_equal(shown_picture(chrome), np.asarray(found.images[0]))


def test_a_study_goes_first_and_another_preset_can_be_chosen(
    chrome: Chrome, bundle: Path, pipe: RealCompo, tmp_path: Path
) -> None:
    """With the field that is changed instead of its own, and its switch moved along."""
    with serving(store(Path(shutil.copytree(bundle, tmp_path / "studied")), KNOBS)) as server:
        chrome.get(f"http://127.0.0.1:{server.port}/")
        until(chrome, lambda page: chosen(page)["guidance"] != "")
        assert chosen(chrome) == {"preset": "recommended", "gradient": "handover", "steps": "5", "guidance": "2.5"}
        drag(chrome, (0.1, 0.5), (0.4, 0.9))
        fill(chrome, "steps", "10")
        by_id(chrome, "draw").click()
        until(chrome, lambda page: status(page).startswith("done"))
        layout = Layout([Region(one["phrase"], box=one["box"]) for one in saved(chrome)["regions"]])
        found = pipe(PROMPT, layout=layout, **KNOBS | {"steps": 10, "switch_step": 4})
        assert np.array_equal(shown_picture(chrome), np.asarray(found.images[0]))
        Select(by_id(chrome, "preset")).select_by_value("fast")
        assert chosen(chrome) == {"preset": "fast", "gradient": "exact", "steps": "50", "guidance": "7.5"}


def test_where_there_are_keys_the_page_offers_its_modes_to_who_has_one(
    chrome: Chrome, bundle: Path, pipe: RealCompo, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("a-key\n")
    with serving(bundle, "--api-key-file", str(tmp_path / "keys")) as server:
        chrome.get(f"http://127.0.0.1:{server.port}/")
        until(chrome, lambda page: by_id(page, "key").is_displayed())
        assert chosen(chrome) == {"preset": "", "gradient": "", "steps": "", "guidance": ""}
        fill(chrome, "steps", "4")
        by_id(chrome, "key").send_keys("a-key", Keys.TAB)
        until(chrome, lambda page: chosen(page)["guidance"] != "")
        assert chosen(chrome) == {"preset": "paper", "gradient": "exact", "steps": "4", "guidance": "7.5"}


def test_both_models_alone_can_be_shown(page: Chrome, pipe: RealCompo) -> None:
    drag(page, (0.1, 0.5), (0.4, 0.9))
    by_id(page, "alone").click()
    by_id(page, "draw").click()
    until(page, lambda page: status(page).startswith("done"))
    Select(by_id(page, "show")).select_by_value("text_to_image")
    found = pipe(PROMPT, gradient="text_to_image", steps=6)
    assert np.array_equal(shown_picture(page), np.asarray(found.images[0]))


def test_a_picture_grows_and_can_be_cancelled(tabletop_bundle: Path) -> None:
    """Of real networks: tiny ones are done before a busy browser has looked."""
    with serving(tabletop_bundle) as demo, browser(1200, 980) as page:
        page.get(f"http://127.0.0.1:{demo.port}/")
        drag(page, (0.1, 0.5), (0.4, 0.9))
        fill(page, "steps", "150")
        by_id(page, "draw").click()
        until(page, lambda page: status(page).startswith("step"))
        by_id(page, "cancel").click()
        until(page, lambda page: status(page) == "cancelled")
        until(page, lambda page: demo.metric("realcompo_drawing_images") == 0)
        assert by_id(page, "draw").is_enabled()


def test_boxes_are_planned_from_the_prompt(page: Chrome) -> None:
    fill(page, "prompt", "a red ball left of a blue cube")
    by_id(page, "plan").click()
    until(page, lambda page: "2 boxes planned" in status(page))
    ball, cube = boxes(page)
    assert ball[2] < cube[0]


def test_a_layout_file_can_be_opened_and_dropped(page: Chrome, tmp_path: Path) -> None:
    file = tmp_path / "scene.json"
    file.write_text(json.dumps({"prompt": "a ring", "regions": [{"phrase": "a ring", "box": [0.1, 0.2, 0.3, 0.4]}]}))
    by_id(page, "openLayout").send_keys(str(file))
    until(page, lambda page: "scene.json is open" in status(page))
    assert saved(page) == json.loads(file.read_text())
    page.execute_script(
        """
        const transfer = new DataTransfer();
        transfer.items.add(new File(['{"regions": [{"phrase": "ball", "box": [0, 0, 1, 0.5]}]}'], "dropped.json"));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        """
    )
    until(page, lambda page: "dropped.json is open" in status(page))
    assert boxes(page) == [[0, 0, 1, 0.5]]


def test_an_error_is_shown_in_words(page: Chrome) -> None:
    drag(page, (0.1, 0.5), (0.4, 0.9))
    fill(page, "prompt", "a ring")
    by_id(page, "draw").click()
    until(page, lambda page: "does not contain the region's phrase" in status(page))


def test_every_control_has_a_name_for_screen_readers(page: Chrome) -> None:
    drag(page, (0.1, 0.5), (0.4, 0.9))
    controls = page.find_elements(By.CSS_SELECTOR, "input, select, textarea, button, a, [role=application], [role=img]")
    assert [one.get_attribute("id") for one in controls if one.is_displayed() and not one.accessible_name] == []


def test_it_fits_a_phone(server: Server) -> None:
    with browser(400, 800) as phone:
        phone.get(f"http://127.0.0.1:{server.port}/")
        wider = phone.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wider <= 0


def test_it_is_dark_where_the_system_is(server: Server) -> None:
    with browser(800, 600, "--force-dark-mode") as dark:
        dark.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        )
        dark.get(f"http://127.0.0.1:{server.port}/")
        colour = dark.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in colour.strip("rgb()").split(",")[:3]) < 60


@pytest.mark.slow
def test_the_readmes_picture_is_taken(tabletop_bundle: Path) -> None:
    """Writes outputs/page.png, of which docs/images/page.png is a copy in fewer colours."""
    with serving(tabletop_bundle) as demo, browser(1200, 980) as page:
        page.get(f"http://127.0.0.1:{demo.port}/")
        drag(page, (0.08, 0.50), (0.46, 0.88))
        drag(page, (0.56, 0.12), (0.94, 0.50))
        by_id(page, "draw").click()
        until(page, lambda page: status(page).startswith("done"))
        red, _, blue = shown_picture(page)[80:96, 28:44].mean((0, 1))  # in the ball's box
        assert red > 2 * blue
        assert page.save_screenshot("outputs/page.png")
