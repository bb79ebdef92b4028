import os
import sys
from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from fpdf import FPDF

from quintet.data.documents.reading import Document, Library, read_folder
from quintet.errors import DataError, QuintetError


def read(folder: Path, name: str) -> Document:
    (document,) = (found for found in read_folder(folder).documents if found.name == name)
    return document


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    return str(caught.value)


def read_html(folder: Path, html: str | bytes) -> str:
    (folder / "page.html").write_bytes(html if isinstance(html, bytes) else html.encode())
    return read(folder, "page.html").text


def pdf() -> FPDF:
    made = FPDF()
    made.add_page()
    made.set_font("Helvetica", size=11)
    return made


def write(made: FPDF, text: str, size: int = 11, gap: int = 6) -> None:
    made.set_font("Helvetica", size=size)
    made.multi_cell(0, size / 2, text, new_x="LMARGIN", new_y="NEXT")
    made.ln(gap)


def read_pdf(folder: Path, made: FPDF) -> str:
    made.output(str(folder / "a.pdf"))
    return read(folder, "a.pdf").text


@pytest.mark.parametrize("name", ["a.md", "a.markdown", "a.txt", "A.MD"])
def test_markdown_and_plain_text_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("# Leave\n\nTwenty days — no more.\n", "utf-8")
    assert read(tmp_path, name).text == "# Leave\n\nTwenty days — no more.\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_a_text_is_encoded(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("Café", encoding)
    assert read(tmp_path, "a.txt").text == "Café"


def test_folders_are_read_to_the_bottom_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.md", "a/z.md", "a/deep/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [document.name for document in read_folder(tmp_path).documents] == ["a/deep/c.md", "a/z.md", "b.md"]


def test_progress_counts_the_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.md").write_text("x")
    seen: list[tuple[int, int]] = []
    read_folder(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_html_becomes_markdown_without_what_nobody_reads(tmp_path: Path) -> None:
    page = """<html><head><title>T</title><style>a {}</style></head><body><nav>Menu</nav><script>run()</script>
    <h1>Leave <b>policy</b></h1><p>Twenty <a href="http://x">days</a><img src="data:xx" alt="y"> of <b>leave</b>.
    <ul><li>one<li>two</ul></body></html>"""
    assert read_html(tmp_path, page) == "# Leave policy\n\nTwenty days of **leave**.\n\n- one\n- two"


def test_merged_cells_of_an_html_table_are_repeated(tmp_path: Path) -> None:
    table = """<table><caption>Days</caption><tr><th rowspan=2>Grade<th colspan=2>Leave</tr><tr><th>new<th>old</tr>
    <tr><td>A|B<td><p>20</p><p>or 21</p><td>2<b>5</b>%</tr></table>"""
    assert read_html(tmp_path, table).splitlines() == [
        "Days",
        "",
        "| Grade | Leave | Leave |",
        "| --- | --- | --- |",
        "| Grade | new | old |",
        "| A\\|B | 20 or 21 | 25% |",
    ]


def test_a_table_of_one_cell_is_no_table(tmp_path: Path) -> None:
    assert read_html(tmp_path, "<table><tr><td><h2>News</h2><p>Hello.</p></td></tr></table>") == "## News\n\nHello."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ('<meta charset="iso-8859-1"><p>\x93Café\x94'.encode("latin-1"), "“Café”"),
        ('<meta charset="shift_jis"><p>休暇'.encode("shift_jis"), "休暇"),
        ('<?xml version="1.0" encoding="utf-8"?><html xmlns="x"><p>Café</p></html>'.encode(), "Café"),
    ],
)
def test_html_may_declare_its_encoding(tmp_path: Path, page: bytes, text: str) -> None:
    assert read_html(tmp_path, page) == text


def test_docx_keeps_headings_lists_and_tables(tmp_path: Path) -> None:
    made = docx.Document()
    made.add_heading("Handbook", 0)
    made.add_heading("Leave", 1)
    made.add_paragraph("Twenty days a year.")
    made.add_paragraph("carried over", style="List Bullet")
    table = made.add_table(2, 2)
    for cell, text in zip([c for row in table.rows for c in row.cells], ["Grade", "Days", "A", "20"], strict=True):
        cell.text = text
    made.save(str(tmp_path / "a.docx"))
    assert read(tmp_path, "a.docx").text.split("\n\n") == [
        "# Handbook",
        "# Leave",
        "Twenty days a year.",
        "- carried over",
        "| Grade | Days |\n| --- | --- |\n| A | 20 |",
    ]


def test_pdf_headings_are_told_by_their_size_and_lines_are_joined_to_paragraphs(tmp_path: Path) -> None:
    made = pdf()
    write(made, "Handbook", 24)
    write(made, "Leave", 16)
    write(made, "Everyone has twenty days of leave in a year. " * 5)
    write(made, "Leave that is left over expires in March.")
    assert read_pdf(tmp_path, made).split("\n\n") == [
        "# Handbook",
        "## Leave",
        ("Everyone has twenty days of leave in a year. " * 5).strip(),
        "Leave that is left over expires in March.",
    ]


def test_a_pdf_table_stands_where_it_stood(tmp_path: Path) -> None:
    made = pdf()
    write(made, "Before the table.")
    with made.table() as table:
        for cells in (("Grade", "Days"), ("A", "20"), ("B|C", "25")):
            row = table.row()
            for cell in cells:
                row.cell(cell)
    made.ln(6)
    write(made, "After the table.")
    assert read_pdf(tmp_path, made).split("\n\n") == [
        "Before the table.",
        "| Grade | Days |\n| --- | --- |\n| A | 20 |\n| B\\|C | 25 |",
        "After the table.",
    ]


def test_what_heads_and_foots_every_page_of_a_pdf_is_no_text_of_it(tmp_path: Path) -> None:
    made = pdf()
    for page in range(1, 5):
        if page > 1:
            made.add_page()
        write(made, "Wrenfield Health, internal")
        for line in ("hears", "sees", "says", "knows"):
            write(made, f"Sentence that {line} the number {7 * page}.")
        write(made, f"2026, page {page + 2} of 6")
    text = read_pdf(tmp_path, made)
    assert "Wrenfield" not in text
    assert "of 6" not in text
    assert text.count("Sentence") == 16


def test_a_paragraph_goes_on_on_the_next_page_of_a_pdf(tmp_path: Path) -> None:
    made = pdf()
    write(made, "Leave that is left over at the end of a year")
    made.add_page()
    write(made, "expires in March.")
    assert read_pdf(tmp_path, made) == "Leave that is left over at the end of a year expires in March."


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        ("Ask for self-\nservice.", "Ask for self-service."),
        ("All information is for the infor-\nmation desk.", "All information is for the information desk."),
        ("Any policy: the poli-\ncy on manage-\nment.", "Any policy: the policy on management."),
        ("A policy of self-service: the poli-\ncy of self-\nservice.",
         "A policy of self-service: the policy of self-service."),
        ("From Monday-\nFriday.", "From Monday- Friday."),
    ],
)  # fmt: skip
def test_a_hyphen_goes_where_a_pdf_hyphenates_its_lines(tmp_path: Path, lines: str, joined: str) -> None:
    made = pdf()
    write(made, lines)
    assert read_pdf(tmp_path, made) == joined


def test_a_pdf_that_writes_no_spaces_is_read_with_spaces(tmp_path: Path) -> None:
    made = pdf()
    for place, word in enumerate(["Twenty", "days", "of", "leave."]):
        made.text(20 + 14.5 * place, 20, word)
    made.set_font("Helvetica", size=6)
    made.text(20, 30, "Small")
    made.text(20 + made.get_string_width("Small") + 0.5, 30, "print")
    assert read_pdf(tmp_path, made).split("\n\n") == ["Twenty days of leave.", "Small print"]


def test_the_lines_of_a_table_of_contents_are_no_text(tmp_path: Path) -> None:
    made = pdf()
    write(made, "1 Leave . . . . . . . . 2")
    write(made, "2 Pay................ iv")
    write(made, "Wait... there are 2.")
    assert read_pdf(tmp_path, made) == "Wait... there are 2."


def test_a_page_that_is_a_picture_is_noted(tmp_path: Path, picture: Path) -> None:
    made = pdf()
    write(made, "A page of text.")
    made.add_page()
    made.image(str(picture), w=50)
    made.output(str(tmp_path / "a.pdf"))
    (note,) = read(tmp_path, "a.pdf").notes
    assert note == "no text on page 2: a picture; recognise its text first (OCR)"


@pytest.fixture
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_what_is_not_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    for name in ("b.xlsx", ".DS_Store", "~$a.docx", "noextension"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.md").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    library = read_folder(tmp_path)
    assert len(library.documents) == 1
    assert dict(library.left_out) == {
        ".DS_Store": "hidden",
        ".git/": "hidden",
        "b.xlsx": "of an unknown kind",
        "loop/": "a link to a folder; put the folder itself here",
        "noextension": "of an unknown kind",
        "~$a.docx": "hidden",
    }


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.xlsx").write_text("x")
    assert "holds no document; expected files named .md, " in refusal(tmp_path)
    assert "found 1 others" in refusal(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "none is no folder; name the folder that holds the documents" in refusal(tmp_path / "none")


def encrypted(path: Path) -> None:
    made = pdf()
    made.set_encryption(owner_password="o", user_password="u")
    write(made, "Secret.")
    made.output(str(path))


def cut_off(path: Path) -> None:
    made = pdf()
    write(made, "Whole.")
    path.write_bytes(bytes(made.output())[:500])


def blank(path: Path) -> None:
    pdf().output(str(path))


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.md", lambda path: path.write_bytes(b""), "is empty; fill it in or remove it"),
        ("a.md", lambda path: path.write_bytes(b" \n\t\n"), "is empty"),
        ("a.md", lambda path: path.write_bytes(b"caf\xe9"), "is not UTF-8 at byte 4; save it as UTF-8"),
        ("a.txt", lambda path: path.write_bytes(b"a\0b"), "holds zero bytes, so it is no text"),
        ("a.txt", lambda path: path.write_bytes(b"\xff\xfea"), "is not UTF-16"),
        ("a.html", lambda path: path.write_bytes(b"<p>caf\xe9"), "is not UTF-8 at byte 7"),
        ("a.html", lambda path: path.write_text('<meta charset="x-none"><p>a'), "declares the encoding 'x-none'"),
        ("a.html", lambda path: path.write_text("<script>x</script>"), "holds no text"),
        ("a.html", lambda path: path.write_text("<div>" * 3000 + "x"), "is broken, or no .html file (RecursionError"),
        ("a.docx", lambda path: path.write_bytes(b"junk"), "is broken, or no .docx file (BadZipFile"),
        ("a.docx", lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0 rest"), "is protected by a password, or an old"),
        ("a.docx", lambda path: docx.Document().save(str(path)), "holds no text"),
        ("a.pdf", lambda path: path.write_bytes(b"junk"), "is broken, or no .pdf file"),
        ("a.pdf", cut_off, "is broken, or no .pdf file"),
        ("a.pdf", encrypted, "is protected by a password; save a copy without one"),
        ("a.pdf", blank, "holds no text; if its pages are pictures, recognise their text first (OCR)"),
        ("a.md", lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        ("a.md", lambda path: path.symlink_to("gone"), "cannot be read: No such file"),
        ("a.md", os.mkfifo, "is no ordinary file; remove it"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)
    assert f"{tmp_path.name}/{name}: {reason}" in refusal(tmp_path)


def test_every_bad_file_is_named_at_once(tmp_path: Path) -> None:
    for name in ("a.md", "c.pdf"):
        (tmp_path / name).touch()
    (tmp_path / "b.md").write_text("good")
    assert len(refusal(tmp_path).splitlines()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "a.md").chmod(0)
    (tmp_path / "shut").mkdir(mode=0)
    said = refusal(tmp_path)
    assert "a.md: cannot be read: Permission denied" in said
    assert "shut: cannot be read: Permission denied" in said


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")).write_text("x")
    library: Library = read_folder(tmp_path)
    assert library.documents[0].name == "caf\ufffd.md"


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    monkeypatch.delitem(sys.modules, "quintet.data.documents.word", raising=False)
    monkeypatch.setitem(sys.modules, "mammoth", None)
    with pytest.raises(QuintetError, match=r"needs mammoth; pip install 'quintet\[documents\]'"):
        read_folder(tmp_path)
