"""The page in a real browser: Chromium, with the driver of the same version."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from skcandle.hub import load_pipeline
from skcandle.labelling import NONE, SKIP, UNLABELLED, LabellingSession
from skcandle.labelling._server import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs Chromium and its driver; on Debian: apt install chromium chromium-driver",
    ),
]
SECONDS = 30  # until something that must appear has appeared


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.add_argument("--headless=new")
    options.add_argument("--window-size=1280,900")
    options.add_argument("--disable-dev-shm-usage")  # small in containers
    if os.geteuid() == 0:  # the sandbox does not work for root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start here: {error.msg}")
    yield driver
    driver.quit()


@contextmanager
def served(session, **options):
    """Serve the page of a session in a thread; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        app = create_app(session, "the-token", port=port, title="colours", **options)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{port}/?token=the-token"
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve(session):
    with served(session) as address:
        yield address


class Page:
    """What a person does with the page, and sees on it."""

    def __init__(self, driver, address):
        self.driver = driver
        self.open(address)

    def open(self, address):
        self.driver.get(address)
        self.driver.get_log("browser")  # forget what the page before it said
        self.wait(lambda: self.all(".card") and self.all("#classes tr"))

    def wait(self, condition):
        try:
            return WebDriverWait(self.driver, SECONDS).until(lambda driver: condition())
        except TimeoutException:
            shown = {name: self.text(f"#{name}") for name in ("alert", "status", "progress")}
            raise AssertionError(f"It did not happen on a page that says {shown}.") from None

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.driver.find_element("css selector", selector).text

    def card(self, index):
        return self.driver.find_element("css selector", f'.card[data-index="{index}"]')

    def press(self, *keys, held=()):
        chain = ActionChains(self.driver)
        for key in held:
            chain.key_down(key)
        chain.send_keys(*keys)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def click(self, selector):
        self.driver.find_element("css selector", selector).click()

    def says(self, text):
        self.wait(lambda: text in self.text("#status"))

    def indices(self, selector):
        """Indices of the cards, in one step: they may change at any moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.dataset.index)"
        return [int(index) for index in self.driver.execute_script(script, selector)]

    @property
    def shown(self):
        """Indices of the photos from top to bottom."""
        return self.indices(".card")

    @property
    def marked(self):
        return set(self.indices(".card.marked"))

    @property
    def focused(self):
        script = "return document.activeElement.closest('.card')?.dataset.index"
        index = self.driver.execute_script(script)
        return None if index is None else int(index)


@pytest.fixture
def page(chromium, serve):
    return Page(chromium, serve)


def named(session, index):
    label = session.labels[index]
    return session.class_names[label] if label >= 0 else int(label)


def test_the_token_does_not_stay_in_the_address(page):
    assert page.driver.current_url.endswith("/")
    assert page.driver.execute_script("return document.cookie") == ""


def test_nothing_is_blocked_and_nothing_comes_from_elsewhere(page):
    page.press("+")
    page.wait(lambda: page.all("#enlarged[open]"))
    origin = page.driver.execute_script("return location.origin")
    script = "return performance.getEntriesByType('resource').map((each) => each.name)"
    loaded = page.driver.execute_script(script)
    assert len(loaded) > 5
    assert [address for address in loaded if not address.startswith(origin)] == []
    assert [each for each in page.driver.get_log("browser") if each["level"] == "SEVERE"] == []


def test_photos_stand_under_their_answers(page, session):
    for group in page.all(".group"):
        title = group.find_element("css selector", "h2").text
        cards = group.find_elements("css selector", ".card")
        indices = [int(card.get_attribute("data-index")) for card in cards]
        assert {session.class_names[k] for k in session.answer(indices).label} == {title}


def test_enter_confirms_the_answer_and_goes_on_to_the_next_photo(page, session):
    first, second = page.shown[:2]
    answer = session.class_names[session.answer([first]).label[0]]
    assert page.focused == first
    page.press(Keys.ENTER)
    page.says(answer)
    assert named(session, first) == answer
    assert page.focused == second


def test_a_click_confirms_the_answer(page, session):
    index = page.shown[1]
    answer = session.class_names[session.answer([index]).label[0]]
    page.card(index).find_element("css selector", ".confirm").click()
    page.says(answer)
    assert named(session, index) == answer


def test_first_letters_choose_another_class(page, session):
    index = page.focused
    page.press("g")
    assert [each.text for each in page.all("#chooser-list li")] == ["green", "New class “g”"]
    page.press("r", Keys.ENTER)
    page.says("green")
    assert named(session, index) == "green"


def test_a_new_name_makes_a_class_and_the_answers_are_new(page, session):
    page.press("/")
    page.press("blue", Keys.ENTER)
    page.wait(lambda: page.shown[0] % 3 == 2 and page.focused == page.shown[0])
    first, second = page.shown[:2]
    page.press("blue", Keys.ENTER)
    page.says("blue")
    assert named(session, first) == "blue"
    assert page.card(second).find_element("css selector", ".name bdi").text == "blue"
    page.wait(lambda: "blue" in page.text("#classes"))


def test_capitals_and_underscores_do_not_make_another_class(page):
    page.press("r")
    page.press(Keys.BACKSPACE, " Red_ ")
    assert [each.text for each in page.all("#chooser-list li")] == ["red"]
    page.press(Keys.ESCAPE)


def test_escape_chooses_no_class(page, session):
    index = page.focused
    page.press("r")
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("#chooser[open]"))
    assert page.focused == index
    assert set(session.labels) == {UNLABELLED}


def test_none_of_these_skip_and_no_label_have_keys(page, session):
    first, second = page.shown[:2]
    page.press("-")
    page.says("none of these")
    page.press(".")
    page.says("skipped")
    assert (named(session, first), named(session, second)) == (NONE, SKIP)
    page.press("z", held=[Keys.CONTROL])
    page.says("Undone")
    page.press(Keys.DELETE)
    page.says("no label")
    assert named(session, second) == UNLABELLED


def test_undo_and_redo_go_back_to_the_start_and_forth(page, session):
    names = ["red", "green", "teal"]
    for name in names:
        page.press(name, Keys.ENTER)
        page.says(name)
    after = session.labels.copy()
    for _ in names:
        page.press("z", held=[Keys.CONTROL])
    page.wait(lambda: not page.driver.find_element("id", "undo").is_enabled())
    assert set(session.labels) == {UNLABELLED}
    for _ in names:
        page.press("z", held=[Keys.CONTROL, Keys.SHIFT])
    page.wait(lambda: not page.driver.find_element("id", "redo").is_enabled())
    np.testing.assert_array_equal(session.labels, after)


def test_shift_and_arrows_mark_photos_that_get_one_label(page, session):
    chosen = page.shown[:3]
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, held=[Keys.SHIFT])
    page.press(Keys.ARROW_LEFT, held=[Keys.SHIFT])
    assert page.marked == set(chosen)
    page.press("green", Keys.ENTER)
    page.says("3 photos: green")
    assert [named(session, index) for index in chosen] == ["green"] * 3
    assert page.marked == set()


def test_shift_and_a_click_mark_a_range(page):
    chosen = page.shown[1:5]
    page.card(chosen[0]).find_element("css selector", ".photo").click()
    last = page.card(chosen[-1]).find_element("css selector", ".photo")
    ActionChains(page.driver).key_down(Keys.SHIFT).click(last).key_up(Keys.SHIFT).perform()
    assert page.marked == set(chosen)


def test_a_frame_that_is_drawn_marks_what_it_touches(page):
    first, second = (page.card(index) for index in page.shown[:2])
    start = first.find_element("css selector", ".photo")
    end = second.find_element("css selector", ".photo")
    ActionChains(page.driver).click_and_hold(start).move_to_element(end).release().perform()
    assert page.marked == set(page.shown[:2])


def test_confirming_marked_photos_gives_each_its_own_answer(page, session):
    answers = [session.class_names[k] for k in session.answer(range(12)).label]
    assert len(set(answers)) > 1
    page.press("a", held=[Keys.CONTROL])
    page.press(Keys.ENTER)
    page.wait(lambda: UNLABELLED not in session.labels)
    assert [named(session, index) for index in range(12)] == answers
    page.press("z", held=[Keys.CONTROL])
    page.says("Undone: 12 photos")
    assert set(session.labels) == {UNLABELLED}


def test_space_marks_for_the_buttons_below(page, session):
    index = page.focused
    page.press(Keys.SPACE)
    assert page.marked == {index}
    page.click('#actions [data-action="none"]')
    page.says("none of these")
    assert named(session, index) == NONE


def test_words_and_a_photo_find_those_that_look_like_them(page):
    page.press("/")
    page.press("green", Keys.ENTER)
    page.wait(lambda: [index % 3 for index in page.shown[:4]] == [1] * 4)
    red = next(index for index in page.shown if index % 3 == 0)
    page.card(red).find_element("css selector", ".photo").click()
    page.click('#actions [data-action="similar"]')
    page.wait(lambda: [index % 3 for index in page.shown[:3]] == [0] * 3)
    assert red not in page.shown


def test_a_class_shows_the_photos_that_are_answered_and_labelled_as_it(page, session):
    page.press("r", Keys.ENTER)
    page.wait(lambda: page.text('#classes tr:first-child [data-by="labelled"]') == "1")
    page.click('#classes tr:first-child [data-by="labelled"]')
    page.wait(lambda: len(page.shown) == 1)
    assert named(session, page.shown[0]) == "red"
    page.click('#classes tr:nth-child(2) [data-by="class"]')
    page.wait(lambda: len(page.shown) > 1)
    assert set(session.answer(page.shown).label) == {1}


def test_the_counts_and_the_accuracy_follow_the_labels(page):
    for _ in range(3):
        page.press(Keys.ENTER)
        page.says("1 photo")
    page.wait(lambda: "3 of 12 photos labelled" in page.text("#progress"))
    assert page.text("#accuracy").startswith("100")
    assert "95 % interval" in page.text("#accuracy")
    curve = page.driver.find_element("id", "curve")
    assert "Estimated accuracy" in curve.get_attribute("aria-label")


def test_a_reloaded_page_shows_the_same_labels(page, session):
    index = page.focused
    page.press("teal", Keys.ENTER)
    page.says("teal")
    page.open(page.driver.current_url)
    page.click('#classes tr:nth-child(3) [data-by="labelled"]')
    page.wait(lambda: page.shown == [index])
    assert page.card(index).find_element("css selector", ".name bdi").text == "✓ teal"


def test_another_window_follows(page, session):
    index = page.shown[1]
    session.label([index], "teal")
    page.wait(lambda: "teal" in page.card(index).text)
    page.wait(lambda: "teal" in page.text("#classes"))


def test_the_focus_in_the_table_of_classes_stays(page, session):
    focus = "document.querySelector('#classes tr:nth-child(2) [data-by=class]').focus()"
    page.driver.execute_script(focus)
    session.label([1], "teal")
    page.wait(lambda: "teal" in page.text("#classes"))
    script = "return document.activeElement.closest('tr')?.rowIndex"
    assert page.driver.execute_script(script) == 2


def test_a_photo_that_did_not_load_is_tried_again(chromium, serve, folder):
    (folder / "00.png").rename(folder / "away")
    page = Page(chromium, serve)
    page.wait(lambda: page.indices(".card:has(.unreadable)") == [0])
    (folder / "away").rename(folder / "00.png")
    page.wait(lambda: not page.all(".unreadable"))


def test_a_name_that_cannot_be_used_is_said_and_nothing_is_labelled(page, session):
    index = page.focused
    page.press(Keys.F2)
    page.press("=1+1", Keys.ENTER)
    page.wait(lambda: "formula" in page.text("#alert"))
    assert named(session, index) == UNLABELLED
    assert page.focused == index


def test_names_are_shown_as_text(page, session):
    session.label([0], "<b>bold</b> & co")
    session.label([1], "constructor")  # a name that all objects of JavaScript have
    page.wait(lambda: "<b>bold</b> & co" in page.text("#classes"))
    page.wait(lambda: "✓ constructor" in page.card(1).text)
    caption = page.card(11).find_element("css selector", ".file")
    assert caption.text == "<img src=x onerror=alert(1)>.png"
    assert page.all(".file *, bdi *") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 800}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.press("a", held=[Keys.CONTROL])
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_screen_readers_get_a_name_for_everything_that_can_be_used(page):
    page.press("a", held=[Keys.CONTROL])
    controls = [each for each in page.all("button, input, select, a") if each.is_displayed()]
    assert len(controls) > 40
    assert [each for each in controls if not each.accessible_name] == []


def test_the_keyboard_reaches_everything_in_a_few_steps(page):
    page.driver.execute_script("document.activeElement.blur()")
    seen = []
    for _ in range(30):
        page.press(Keys.TAB)
        script = "const e = document.activeElement; return e.id || e.closest('.card')?.className"
        seen.append(page.driver.execute_script(script))
    assert {"save-model", "show-keys", "new-class", "by", "words", "grouped", "reload"} <= set(seen)
    assert sum(each == "card" for each in seen[: seen.index("reload") + 10]) <= 2


@pytest.fixture
def command(folder, tmp_path):
    """Start the command, and return its process and the address that it prints."""
    line = [
        *(sys.executable, "-m", "skcandle", "label", str(folder), "-o", str(tmp_path / "new.csv")),
        *("--classes", "red, green", "--model", "emoji-clip", "--no-browser"),
        *("--cache", str(tmp_path / "cache")),
    ]
    processes = []

    def start():
        process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        address = next(text for text in process.stderr if text.startswith("http"))
        return process, address.split()[0]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_after_a_killed_command_the_next_one_goes_on_until_ctrl_c(chromium, command, tmp_path):
    process, address = command()
    page = Page(chromium, address)
    first = page.focused
    page.press("teal", Keys.ENTER)
    page.says("teal")
    process.kill()
    page.wait(lambda: "does not answer" in page.text("#alert"))
    page.press("red", Keys.ENTER)
    page.wait(lambda: not page.all(".card.pending"))
    process, address = command()
    page.open(address)
    page.wait(lambda: "1 of 12 photos labelled" in page.text("#progress"))
    page.click('#classes tr:nth-child(3) [data-by="labelled"]')
    page.wait(lambda: page.shown == [first])
    assert "teal" in page.card(first).text
    page.press("z", held=[Keys.CONTROL])
    page.says("Undone")
    page.wait(lambda: "0 of 12 photos labelled" in page.text("#progress"))
    page.press("y", held=[Keys.CONTROL])
    page.wait(lambda: "1 of 12 photos labelled" in page.text("#progress"))
    process.send_signal(signal.SIGINT)
    said, table = process.stderr.read(), tmp_path / "new.csv"
    assert process.wait() == 0
    assert f"{table}: the table, with 1 of your labels" in said
    assert "teal" in table.read_text()


def test_the_button_writes_a_model_and_says_where(chromium, folder, tmp_path):
    table, model = tmp_path / "new.csv", tmp_path / "new.skops"
    classes = ["red", "green"]
    with LabellingSession.open(folder, table, classes=classes, model="emoji-clip") as session:
        with served(session, model_path=model) as address:
            page = Page(chromium, address)
            page.click("#save-model")
            page.says(f"Written: {model}")
    assert load_pipeline(model).classes_.tolist() == sorted(classes)
