"""The page in a headless Chromium: no errors, no requests, narrow and wide, keyboard, contrast."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), ''
)

#: The least contrast of a text with what is behind it, and that text (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('script,noscript,style,title')) continue;
    const style = getComputedStyle(element);
    const front = element.closest('svg') ? style.fill : style.color;
    const pair = [light(parse(front)), light(behind(element))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), walker.currentNode.data.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""
#: Images without a text for those who can't see them, and controls without a name.
NAMELESS = """() => [...document.querySelectorAll('img:not([alt]), svg:not([aria-label])')].length
  + [...document.querySelectorAll('input, button, summary')].filter((e) =>
      !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label'))).length"""


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    api = pytest.importorskip('playwright.sync_api', reason='needs playwright')
    if not CHROMIUM:
        pytest.skip('needs Chromium (apt-get install chromium)')
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield found
        found.close()


class Opened:
    """A page, with what it complained about and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1440, scheme: str = 'light') -> None:
        self.context = browser.new_context(
            viewport=dict(width=width, height=900), color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on('console', lambda message: self.problems.append(message.text))
        self.page.on('pageerror', lambda error: self.problems.append(str(error)))
        self.page.on('dialog', lambda dialog: self.problems.append(dialog.message))
        self.page.on('request', lambda request: self._asked(request.url))
        self.page.goto(path.as_uri())

    def _asked(self, url: str) -> None:
        if not url.startswith(('file:', 'data:')):
            self.problems.append(url)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *args: object) -> None:
        self.context.close()


@pytest.mark.parametrize('width', [390, 1440])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_opens_without_errors_and_fits(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    with Opened(browser, report, width, scheme) as opened:
        page = opened.page
        page.evaluate('document.querySelectorAll("details").forEach((d) => { d.open = true; })')
        page.wait_for_timeout(100)
        assert opened.problems == []
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        broken = '[...document.images].filter((i) => i.currentSrc && !i.naturalWidth).length'
        assert page.evaluate(broken) == 0
        ratio, text = page.evaluate(CONTRAST)
        assert ratio >= 4.5, text
        assert page.evaluate(NAMELESS) == 0
        background = page.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (background == 'rgb(255, 255, 255)') == (scheme == 'light')


def test_a_nasty_name_is_shown_as_text(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        assert opened.page.locator('h4', has_text='<script>').first.is_visible()
        assert opened.page.locator('.choices button', has_text='<script>').first.is_visible()
        assert opened.problems == []


def test_templates_can_be_looked_through_by_keyboard(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        page = opened.page
        viewer = page.locator('.viewer').first
        viewer.locator('button').first.focus()
        page.keyboard.press('Tab')
        page.keyboard.press('Enter')  # the second image
        assert viewer.locator('button').nth(1).get_attribute('aria-pressed') == 'true'
        assert viewer.locator('button').first.get_attribute('aria-pressed') == 'false'
        buttons = viewer.locator('button').count()
        for _ in range(buttons - 1):
            page.keyboard.press('Tab')
        assert page.evaluate('document.activeElement.className') == 'which'
        before = viewer.locator('.said').text_content()
        page.keyboard.press('ArrowRight')
        assert viewer.locator('.said').text_content() != before
        assert page.evaluate('document.activeElement.value') == '1'
        drawn = (
            'c => c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0)'
        )
        assert viewer.locator('canvas').evaluate(drawn)


def test_sections_and_details_are_reached_by_keyboard(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        page = opened.page
        page.keyboard.press('Tab')
        assert page.evaluate('document.activeElement.className') == 'skip'
        visited = set()
        for _ in range(60):
            page.keyboard.press('Tab')
            visited.add(page.evaluate('document.activeElement.tagName'))
        assert {'A', 'SUMMARY', 'INPUT', 'BUTTON'} <= visited
        page.locator('summary').last.focus()
        page.keyboard.press('Enter')
        assert page.locator('details').last.evaluate('(d) => d.open')


def test_the_colours_fade(browser: Any, report: Path) -> None:
    with Opened(browser, report) as opened:
        slider = opened.page.locator('.opacity').first
        slider.focus()
        opened.page.keyboard.press('Home')
        opacity = 'getComputedStyle(document.querySelector(".overlay")).opacity'
        assert opened.page.evaluate(opacity) == '0'
