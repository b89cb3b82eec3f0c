"""The report: one page that loads nothing and believes no name, and numbers that can be read back."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from sameface.evaluation.bootstrap import Estimate
from sameface.evaluation.charts import Chart, Line
from sameface.evaluation.compare import overlay_charts
from sameface.evaluation.errors import ProtocolError
from sameface.evaluation.report import (
    THUMBNAIL,
    EvaluationReport,
    PairThumbnails,
    ReportTable,
    percent,
    plain,
    read_json,
    report_record,
    to_jpeg,
    with_interval,
    write_json,
)
from sameface.evaluation.report_html import FACES_NOTE, SHOWN_ROWS, TITLES, to_html, write_html

NAN = float("nan")
EVIL = """<script>alert(1)</script>"'><img src=//evil.example onerror=alert(1)>&amp;{body}"""
X = np.array([0.01, 0.1, 1.0])


class Page(HTMLParser):
    """What a browser sees: every element with its attributes, and the text of each."""

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.text = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def make_thumbnails(a, b, caption):
    return PairThumbnails(to_jpeg(a), to_jpeg(b), caption)


def make_report(*, name="all", rows=1, **more):
    """Return a small report."""
    lines = (Line(name, X, X),)
    return EvaluationReport(
        kind="pairs",
        facts={"weights": "resnet29 (sha-256 3fa9…)", "signature": "9b1c"},
        tables=(ReportTable("Measures", ("measure", "value"), (("AUC", "99.61 %"),) * rows),),
        charts=(Chart("ROC", "FAR", "VAL", lines, caption="Higher is better.", log_x=True),),
        data={"measures": {"AUC": Estimate(0.9961, NAN, 1.0)}, "n": np.int64(3), "x": X},
        **more,
    )


def make_evil():
    """Return a report in which every text tries to break out."""
    report = make_report(name=EVIL, failures=(EVIL,), warnings=(EVIL,))
    image = np.zeros((8, 8, 3), np.uint8)
    return replace(
        report,
        kind=EVIL,
        facts={EVIL: EVIL},
        tables=(ReportTable(EVIL, (EVIL, EVIL), ((EVIL, EVIL),)),),
        charts=(replace(report.charts[0], title=EVIL, caption=EVIL, x_label=EVIL, y_label=EVIL),),
        pictures=(make_thumbnails(image, image, EVIL),),
    )


@pytest.mark.parametrize("report", [make_report(), make_evil()], ids=["plain", "evil"])
def test_the_page_runs_nothing_and_loads_nothing(report):
    page = Page(to_html(report))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "embed", "base"})
    addresses = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    assert not [key for _, found in page.elements for key in found if key.startswith("on") or key == "style"]


def test_every_name_is_shown_as_it_is():
    page = Page(to_html(make_evil()))
    for tag in ("title", "h1", "h2", "h3", "dt", "dd", "th", "td", "li", "figcaption"):
        assert page.all(tag), tag
    # Title and heading; a note; two in the facts; two of the table's title; its four cells; three of the
    # plot, in whose picture the rest stand; the failure; the caption of the faces.
    shown = "".join(page.text)
    assert shown.count(EVIL) == 2 + 1 + 2 + 1 + 4 + 2 + 1 + 1
    assert page.all("img")[0]["alt"].count(EVIL) == 3


def test_the_policy_allows_this_style_and_pictures_in_the_page_and_nothing_else():
    source = to_html(make_report())
    (policy,) = [meta["content"] for meta in Page(source).all("meta") if meta.get("http-equiv")]
    style = source.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_the_page_can_be_read_aloud_and_on_a_phone():
    page = Page(to_html(make_report()))
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert [cell["scope"] for cell in page.all("th")] == ["col", "col", "row"]
    assert [image["alt"] for image in page.all("img")] == ["Plot of VAL against FAR: all"]
    (region,) = [found for found in page.all("div") if found.get("role") == "region"]
    assert (region["aria-label"], region["tabindex"]) == ("Measures", "0")
    levels = [tag for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels == ["h1", "h2", "h2", "h3"]
    assert f"sameface: {TITLES['pairs']}" in page.text


def test_a_plot_is_a_picture_in_the_page():
    (image,) = Page(to_html(make_report())).all("img")
    kind, data = image["src"].split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).startswith(b"<svg ")


@pytest.mark.parametrize(("rows", "folded"), [(1, 0), (SHOWN_ROWS, 0), (SHOWN_ROWS + 1, 1)])
def test_a_long_table_is_folded_up(rows, folded):
    page = Page(to_html(make_report(rows=rows)))
    assert len(page.all("details")) == folded
    assert len(page.all("tr")) == rows + 1


def test_an_empty_table_says_none():
    page = Page(to_html(make_report(rows=0)))
    assert not page.all("table")
    assert "None." in page.text


def test_a_report_without_plots_has_no_heading_for_them():
    assert "Plots" not in Page(to_html(replace(make_report(), charts=()))).text


def test_faces_are_shown_only_when_asked_for_and_with_a_warning():
    assert "image/jpeg" not in to_html(make_report())
    assert FACES_NOTE not in "".join(Page(to_html(make_report())).text)
    image = np.full((300, 200, 3), 90, np.uint8)
    page = Page(to_html(make_report(pictures=(make_thumbnails(image, image, "Anna and Eva, distance 0.3"),))))
    faces = [found for found in page.all("img") if found["src"].startswith("data:image/jpeg;base64,")]
    assert [found["alt"] for found in faces] == ["first face", "second face"]
    assert FACES_NOTE in page.text
    assert "Anna and Eva, distance 0.3" in page.text


def test_a_thumbnail_is_small_and_holds_nothing_but_the_picture():
    image = np.zeros((300, 200, 3), np.uint8)
    image[:, :, 0] = 200
    pair = make_thumbnails(image, image[:20, :10], "")
    first, second = (PIL.Image.open(io.BytesIO(data)) for data in (pair.first, pair.second))
    assert (first.size, second.size) == ((round(THUMBNAIL * 2 / 3), THUMBNAIL), (10, 20))
    assert not first.getexif()
    np.testing.assert_allclose(np.asarray(first)[64, 40], [200, 0, 0], atol=4)


def test_a_name_that_is_no_text_is_written_escaped(tmp_path):
    path = tmp_path / "report.html"
    write_html(make_report(name="caf\udce9", failures=("no face found in 'caf\udce9.jpg'",)), path)
    assert "caf\\udce9.jpg" in path.read_text("utf-8")
    write_json(make_report(name="caf\udce9"), tmp_path / "report.json")
    assert read_json(tmp_path / "report.json")["charts"][0]["lines"][0]["name"] == "caf\udce9"


def test_a_page_that_cannot_be_drawn_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    write_html(make_report(), path)
    before = path.read_bytes()
    broken = Chart("ROC", "x", "y", (Line("a", np.zeros(2), np.zeros(3)),))
    with pytest.raises(ValueError, match="shape"):
        write_html(replace(make_report(), charts=(broken,)), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_numbers_are_read_back_to_the_last_digit(tmp_path):
    path = tmp_path / "report.json"
    report = make_report(failures=("no face found in 'a.jpg'",), warnings=("few people",))
    write_json(report, path)
    record = read_json(path)
    assert record == report_record(report)
    assert record["data"]["measures"]["AUC"] == {"value": 0.9961, "low": None, "high": 1.0}
    assert record["charts"][0]["lines"][0]["x"] == X.tolist()


def test_the_json_never_holds_faces():
    image = np.zeros((8, 8, 3), np.uint8)
    report = make_report(pictures=(make_thumbnails(image, image, "whose"),))
    assert report_record(report) == report_record(make_report())


def test_a_measure_is_told_in_percent_with_its_interval():
    assert with_interval(Estimate(0.98765, 0.97, 1.0)) == "98.77 % (97.00 to 100.00)"
    assert percent(0.5, 1) == "50.0 %"
    assert with_interval(Estimate(NAN, NAN, NAN)) == percent(NAN) == "not defined"


def test_what_is_not_defined_becomes_null():
    assert plain({1: [NAN, float("inf"), np.float32(0.5)], "flag": np.True_, "none": None}) == {
        "1": [None, None, 0.5],
        "flag": True,
        "none": None,
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', "\x00", "[" * 100_000])
def test_another_file_is_not_taken_for_a_report(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ProtocolError, match="not the JSON of a report"):
        read_json(path)


def record_of(report):
    """Return a report as another run would read it from its file."""
    return json.loads(json.dumps(report_record(report)))


def test_two_models_share_a_plot_and_are_called_by_their_weights():
    other = replace(make_report(), facts={"weights": "faces-b (sha-256 1…)"})
    found = overlay_charts(make_report(), record_of(other)).charts[0]
    assert [line.name for line in found.lines] == ["resnet29", "faces-b"]
    np.testing.assert_array_equal(found.lines[1].y, X)
    assert found.caption == "Higher is better."


def test_two_runs_of_one_model_are_told_apart():
    found = overlay_charts(make_report(), record_of(make_report())).charts[0]
    assert [line.name for line in found.lines] == ["resnet29, this run", "resnet29, other run"]


def with_lines(report, *lines):
    """Return the report with these curves in its only plot."""
    return replace(report, charts=(replace(report.charts[0], lines=lines),))


def test_the_two_kinds_of_pairs_are_named_with_their_model():
    report = with_lines(make_report(), Line("own", X, X), Line("other", X, X))
    found = overlay_charts(report, record_of(replace(report, facts={"weights": "b"}))).charts[0]
    assert [line.name for line in found.lines] == ["resnet29: own", "resnet29: other", "b: own", "b: other"]


def test_of_many_slices_only_the_whole_is_compared():
    report = with_lines(make_report(), *(Line(name, X, X) for name in ("all", "men", "women")))
    found = overlay_charts(report, record_of(replace(report, facts={"weights": "b"}))).charts[0]
    assert [line.name for line in found.lines] == ["resnet29", "b"]


def test_a_plot_that_the_other_run_lacks_stays_as_it_is():
    report = make_report()
    other = record_of(report) | {"charts": []}
    assert overlay_charts(report, other).charts[0] is report.charts[0]


def test_intervals_and_gaps_come_back_from_the_other_run():
    line = Line("all", X, np.array([0.5, NAN, 1]), X - 0.1, X + 0.1)
    found = overlay_charts(make_report(), record_of(with_lines(make_report(), line))).charts[0].lines[1]
    np.testing.assert_array_equal(found.y, line.y)
    np.testing.assert_array_equal((found.low, found.high), (line.low, line.high))


@pytest.mark.parametrize(
    "change",
    [
        {"charts": None},
        {"facts": []},
        {"charts": [{"title": "ROC"}]},
        {"charts": [{"title": "ROC", "lines": [{"name": "all"}]}]},
        {"charts": [{"title": "ROC", "lines": [{"name": "a", "x": [1], "y": [1, 2], "low": None, "high": None}]}]},
        {"charts": [{"title": "ROC", "lines": [{"name": "a", "x": [1], "y": ["1"], "low": None, "high": None}]}]},
        {"charts": [{"title": "ROC", "lines": [{"name": "a", "x": [1], "y": [1], "low": 3, "high": None}]}]},
        {"charts": [{"title": "ROC", "lines": [{"name": "a", "x": [True], "y": [1], "low": None, "high": None}]}]},
    ],
)
def test_broken_curves_of_another_run_are_refused(change):
    with pytest.raises(ProtocolError, match="plots are not whole"):
        overlay_charts(make_report(), record_of(make_report()) | change)
