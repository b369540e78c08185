"""The page: well formed, self-contained, escaped, and sayable to a reader who sees no pictures."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from adafocus_jax.visualize.report import Headline, Picture, Report, Section, Table, write_report

EVIL = "<script>alert('1')</script> & \"x\""
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Checks nesting, and keeps tags, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def html(tmp_path):
    table = Table(EVIL, ("name", EVIL), ((EVIL, "0.5"), ("b", "−3")))
    section = Section(EVIL, (EVIL,), (table, Picture(IMAGE, EVIL, EVIL)))
    report = Report(EVIL, (EVIL,), (Headline("97%", EVIL, EVIL), Headline("1", "one")), (section,))
    write_report(tmp_path / "report" / "index.html", report)
    return (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_page_is_well_formed_and_escaped(html):
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 8
    assert page.attributes("img")[0]["alt"] == EVIL
    assert html.startswith("<!DOCTYPE html>")


def test_nothing_is_loaded_from_elsewhere(html):
    for _, attrs in Page(html).tags:
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith("data:")
    assert "url(" not in html
    assert "@import" not in html


def test_pictures_are_inside(html):
    data = Page(html).attributes("img")[0]["src"].removeprefix("data:image/png;base64,")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image[..., ::-1], IMAGE)


def test_headings_language_and_tables_help_a_reader(html):
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert page.attributes("html")[0]["lang"] == "en"
    assert tags.count("h1") == 1
    assert tags.index("h1") < tags.index("h2")
    assert {attrs.get("scope") for attrs in page.attributes("th")} == {"col", "row"}
    assert "width=device-width" in html
    assert [attrs.get("class") for attrs in page.attributes("td")] == ["figure", "figure"]


def test_a_report_may_be_almost_empty(tmp_path):
    write_report(
        tmp_path / "a.html", Report("t", (), (), (Section("s", (), (Table("none", ("a", "b"), ()),)),))
    )
    Page((tmp_path / "a.html").read_text(encoding="utf-8"))


def test_names_that_are_no_text_are_written_with_a_sign(tmp_path):
    write_report(tmp_path / "page.html", Report(title="caf\udce9.mp4", summary=()))
    assert "<h1>caf\ufffd.mp4</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
