from html.parser import HTMLParser
from pathlib import Path

from matplotlib.figure import Figure

from spiritlm.run.page import Page, audio, cards, figure, table


def test_one_file_that_needs_nothing_else_and_escapes_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    page = Page("A <title>", "x & y")
    page.section("Heading <1>", table(["a", "b"], [["<td>", "2"]]), cards([("1 %", "of <it>")]), note="n < 1")
    page.section("Media", figure(Figure(), 'a "plot"'), audio(tmp_path / "a.wav"))
    page.save(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    for shown in ("A &lt;title&gt;", "x &amp; y", "Heading &lt;1&gt;", "&lt;td&gt;", "of &lt;it&gt;", "n &lt; 1"):
        assert shown in html
    sources: list[str] = []

    class Sources(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            sources.extend(value or "" for name, value in attributes if name in ("src", "href"))

    Sources().feed(html)
    assert [source.split(";")[0] for source in sources] == ["data:image/png", "data:audio/wav"]
