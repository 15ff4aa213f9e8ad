#!/usr/bin/env python3
"""Opens the book and reports of `sr evaluate` in Chromium.

browser-test.py BOOK REPORT.html...
"""

import functools
import http.server
import io
import json
import os
import re
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageChops
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

BOOK = Path(sys.argv[1]).resolve()
REPORTS = [Path(report).resolve() for report in sys.argv[2:]]
SUMMARY = Path(__file__).parents[1] / "docs/SUMMARY.md"
CHAPTERS = [name.removesuffix(".md") + ".html" for name in re.findall(r"\]\((.*?)\)", SUMMARY.read_text())]
# In which chapter the search has to find a word.
WORD, CHAPTER = "interlaced", "use/troubleshooting.html"


def start_browser():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in [
        "--headless=new",
        "--window-size=1400,1000",
        "--no-proxy-server",
        # What asks for another host is seen in the log, and fails.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]:
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    # The book's page for printers would open a dialogue.
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": "window.print = () => {}"})
    return driver


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Pages(unittest.TestCase):
    """A browser, and what its pages asked for."""

    @classmethod
    def setUpClass(cls):
        cls.browser = start_browser()
        cls.addClassCleanup(cls.browser.quit)

    def assert_clean(self, own):
        """All images are there, nothing is on the console since the last call, and all that was
        asked for begins with this URL."""
        broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt || i.src)"
        images = self.browser.execute_script(broken)
        messages = [entry["message"] for entry in self.browser.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        self.assertEqual(images, [])
        self.assertEqual(messages, [])
        self.assertTrue(any(url.startswith(own) for url in urls), "no requests seen")
        others = [url for url in urls if urlsplit(url).scheme not in ("data", "about") and not url.startswith(own)]
        self.assertEqual(others, [])

    def active(self):
        return self.browser.switch_to.active_element

    def wait(self, condition, message):
        return WebDriverWait(self.browser, 20, 0.05).until(lambda _: condition(), message)


class Book(Pages):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Not at the top of its server, as on GitHub.
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        (Path(folder.name) / "some").mkdir()
        (Path(folder.name) / "some/book").symlink_to(BOOK)
        handler = functools.partial(Quiet, directory=folder.name)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        cls.addClassCleanup(server.server_close)
        threading.Thread(target=server.serve_forever).start()
        cls.addClassCleanup(server.shutdown)
        cls.base = f"http://127.0.0.1:{server.server_port}/some/book/"

    def test_pages(self):
        # The list of chapters for browsers without scripts is no page of its own.
        pages = sorted({str(page.relative_to(BOOK)) for page in BOOK.rglob("*.html")} - {"toc.html"})
        self.assertLessEqual(set(CHAPTERS), set(pages))
        for page in pages:
            with self.subTest(page):
                self.browser.get(self.base + page)
                self.assertNotEqual(self.browser.find_element(By.TAG_NAME, "body").text.strip(), "")
                self.assert_clean(self.base)
                links = self.browser.find_elements(By.CSS_SELECTOR, "#mdbook-sidebar .chapter-item > * > a")
                shown = [link.get_attribute("href") for link in links if link.is_displayed()]
                self.assertEqual([url.split("#")[0].removeprefix(self.base) for url in shown], CHAPTERS)

    def test_search(self):
        for start in ["index.html", CHAPTER]:
            with self.subTest(start):
                self.browser.get(self.base + start)
                self.browser.find_element(By.ID, "mdbook-search-toggle").click()
                self.wait(lambda: self.active().get_attribute("id") == "mdbook-searchbar", "no search bar")
                self.active().send_keys(WORD)
                result = f"#mdbook-searchresults a[href*='{CHAPTER}?']"
                found = self.wait(lambda: self.browser.find_elements(By.CSS_SELECTOR, result), "nothing found")
                found[0].click()
                self.wait(lambda: CHAPTER in self.browser.current_url and "highlight=" in self.browser.current_url,
                          "the result leads elsewhere")
                marks = self.wait(lambda: self.browser.find_elements(By.CSS_SELECTOR, "main mark"), "nothing marked")
                self.assertIn(WORD[:5], marks[0].text.lower())
                self.assert_clean(self.base)


class Reports(Pages):
    def each(self, check):
        """Calls this with every figure that has a slider."""
        for report in REPORTS:
            with self.subTest(report.name):
                self.browser.get(report.as_uri())
                viewers = self.browser.find_elements(By.CLASS_NAME, "viewer")
                self.assertNotEqual(viewers, [])
                try:
                    for viewer in viewers:
                        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", viewer)
                        check(viewer, viewer.find_element(By.CLASS_NAME, "stage"))
                finally:
                    self.assert_clean(report.as_uri())

    def assert_cut(self, stage, percent):
        """The right picture and the handle begin there."""
        right = stage.find_element(By.CSS_SELECTOR, "img.right").value_of_css_property("clip-path")
        cut = re.fullmatch(r"inset\(0px 0px 0px ([\d.]+)%\)", right)
        self.assertIsNotNone(cut, right)
        self.assertAlmostEqual(float(cut[1]), percent, delta=0.5)
        handle = stage.find_element(By.CLASS_NAME, "handle").rect
        at = handle["x"] + handle["width"] / 2 - stage.rect["x"]
        self.assertAlmostEqual(at, stage.rect["width"] * percent / 100, delta=2)

    def picture(self, stage):
        return Image.open(io.BytesIO(stage.screenshot_as_png)).convert("RGB")

    def test_mouse(self):
        self.each(self.mouse)

    def mouse(self, _, stage):
        self.assert_cut(stage, 50)
        before = self.picture(stage)
        width = stage.rect["width"]

        def drag(start, stops):
            """Places as parts of the width."""
            chain = ActionChains(self.browser)
            chain.move_to_element_with_offset(stage, round((start - 0.5) * width), 5).click_and_hold()
            for stop in stops:
                chain.move_to_element_with_offset(stage, round((stop - 0.5) * width), 9)
            chain.release().perform()

        drag(0.2, [0.3, 0.9])
        self.assert_cut(stage, 90)
        self.assertIsNotNone(ImageChops.difference(before, self.picture(stage)).getbbox())
        # Beyond the picture.
        drag(0.9, [0.5, -0.1])
        self.assert_cut(stage, 0)
        # Without a button, it stays.
        ActionChains(self.browser).move_to_element(stage).perform()
        self.assert_cut(stage, 0)
        ActionChains(self.browser).click(stage).perform()
        self.assert_cut(stage, 50)

    def test_keyboard(self):
        self.each(self.keyboard)

    def keyboard(self, _, stage):
        slider = stage.find_element(By.TAG_NAME, "input")
        for _ in range(100):
            ActionChains(self.browser).send_keys(Keys.TAB).perform()
            if self.active() == slider:
                break
        self.assertEqual(self.active(), slider, "not reached by Tab")
        self.assertEqual(stage.value_of_css_property("outline-style"), "solid")
        for key, percent in [(Keys.HOME, 0), (Keys.ARROW_RIGHT, 0.5), (Keys.END, 100), (Keys.ARROW_LEFT, 99.5)]:
            ActionChains(self.browser).send_keys(key).perform()
            self.assertEqual(float(slider.get_property("value")), percent)
            self.assert_cut(stage, percent)

    def test_pixels(self):
        self.each(self.pixels)

    def pixels(self, viewer, stage):
        """Left of the handle one picture is seen, and right of it the other."""
        names = {"left": "low resolution", "right": "original"}
        choices = {side: Select(viewer.find_element(By.CSS_SELECTOR, f"select[data-side={side}]")) for side in names}
        for side, name in names.items():
            choices[side].select_by_value(name)
        both = self.picture(stage)
        # Not at the edges, which lie between pixels of the screen, and not where the handle is.
        width, height = both.size
        boxes = {"left": (30, 3, width // 2 - 30, height - 3), "right": (width // 2 + 30, 3, width - 30, height - 3)}
        for side, name in names.items():
            # The same picture on both sides.
            for choice in choices.values():
                choice.select_by_value(name)
            one = self.picture(stage)
            for there, box in boxes.items():
                difference = ImageChops.difference(both.crop(box), one.crop(box)).getbbox()
                self.assertEqual(difference is None, side == there, f"the {side} picture on the {there}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
