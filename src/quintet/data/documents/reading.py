"""A folder of files → their text as Markdown. Every file is read, refused with a reason, or listed as left out."""

import codecs
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quintet.errors import DataError, QuintetError

Progress = Callable[[int, int], None]
Reader = Callable[[bytes], tuple[str, tuple[str, ...]]]
"""What is in a file → its text as Markdown, and what was not read of it."""
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
OLD_OFFICE = b"\xd0\xcf\x11\xe0"
# What a PDF's letter becomes when its font does not say which letter it is.
NAMELESS_LETTER = re.compile(r"\(cid:\d+\)")


@dataclass(frozen=True)
class Document:
    """The text of a file as Markdown; `name` is its path below the folder, `notes` what was not read of it."""

    name: str
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Library:
    """What was read of a folder, and the name of and the reason for each file that was left out."""

    documents: tuple[Document, ...]
    left_out: tuple[tuple[str, str], ...]


class UnreadableFileError(Exception):
    """A file cannot be used: what is wrong with it, and the fix."""


def read_folder(folder: Path, progress: Progress = lambda done, total: None) -> Library:
    """Return the documents of a folder and of the folders below it, in the order of their names.

    Raises DataError naming every file that should be read and cannot be, and why.
    """
    if not folder.is_dir():
        raise DataError([f"{folder} is no folder; name the folder that holds the documents"])
    files, left_out, problems = _list(folder)
    documents = []
    for done, path in enumerate(files):
        progress(done, len(files))
        try:
            documents.append(read_document(path, _name(path, folder)))
        except UnreadableFileError as error:
            problems.append(f"{_name(path, folder.parent)}: {error}")
    progress(len(files), len(files))
    if not documents and not problems:
        kinds = ", ".join(READERS)
        problems.append(f"{folder} holds no document; expected files named {kinds}, found {len(left_out)} others")
    if problems:
        raise DataError(problems)
    return Library(tuple(documents), tuple(left_out))


def _list(folder: Path) -> tuple[list[Path], list[tuple[str, str]], list[str]]:
    """Return the files of known kinds, what is left out with the reason, and the folders that cannot be read."""
    files: list[Path] = []
    left_out: list[tuple[str, str]] = []
    problems: list[str] = []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {error.strerror}; allow it, or move the folder away")

    for root, folders, names in os.walk(folder, onerror=unreadable):
        for name in list(folders):
            path = Path(root, name)
            if reason := _reason_to_leave_folder(path):
                folders.remove(name)
                left_out.append((_name(path, folder) + "/", reason))
        for name in names:
            path = Path(root, name)
            if reason := _reason_to_leave_file(path):
                left_out.append((_name(path, folder), reason))
            else:
                files.append(path)
    return sorted(files), sorted(left_out), problems


def _reason_to_leave_folder(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    # A link may lead back to where it stands.
    return "a link to a folder; put the folder itself here" if path.is_symlink() else None


def _reason_to_leave_file(path: Path) -> str | None:
    if path.name.startswith((".", "~$")):
        return "hidden"
    return None if path.suffix.lower() in READERS else "of an unknown kind"


def _name(path: Path, folder: Path) -> str:
    # A name need not be UTF-8 on disk; in a data file it must be.
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "replace")


def read_document(path: Path, name: str) -> Document:
    """Return the text of one file; raise UnreadableFileError when there is none to be had."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFileError("is no ordinary file; remove it")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}; mend or remove it") from None
    if not data.strip():
        raise UnreadableFileError("is empty; fill it in or remove it")
    return read_bytes(data, name, READERS[path.suffix.lower()])


def read_bytes(data: bytes, name: str, reader: Reader) -> Document:
    """Return the text of what is in a file; raise UnreadableFileError, or QuintetError where a library is missing."""
    kind = Path(name).suffix.lower()
    try:
        text, notes = reader(data)
    except ImportError as error:
        raise QuintetError(f"reading {name} needs {error.name}; pip install 'quintet[documents]'") from None
    except UnreadableFileError:
        raise
    except Exception as error:
        # A damaged file makes a parser raise anything.
        if "Password" in repr(error):
            raise UnreadableFileError("is protected by a password; save a copy without one") from None
        shown = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnreadableFileError(f"is broken, or no {kind} file ({shown}); save it anew, or remove it") from None
    if not text.strip():
        raise UnreadableFileError(
            "holds no text; if its pages are pictures, recognise their text first (OCR), else remove it"
        )
    return Document(name, text, notes)


def decode(data: bytes, declared: str | None = None) -> str:
    """Return the text by its byte order mark, else by the encoding it declares, else as UTF-8."""
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    encoding = marked or declared or "utf-8"
    try:
        text = data.decode(encoding)
    except LookupError:
        raise UnreadableFileError(f"declares the encoding {encoding!r}, which is not known; save it as UTF-8") from None
    except UnicodeError as error:
        where = f" at byte {error.start + 1}" if isinstance(error, UnicodeDecodeError) else ""
        raise UnreadableFileError(f"is not {encoding.upper()}{where}; save it as UTF-8") from None
    if "\0" in text:
        raise UnreadableFileError("holds zero bytes, so it is no text; remove it, or name it by what it is")
    return text


def _text(data: bytes) -> tuple[str, tuple[str, ...]]:
    return decode(data), ()


def _html(data: bytes) -> tuple[str, tuple[str, ...]]:
    from bs4.dammit import EncodingDetector

    from quintet.data.documents.html import html_to_markdown

    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    # Browsers read Latin-1 as Windows-1252, and so pages that declare the one are written in the other.
    latin = (declared or "").lower() in ("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii")
    return html_to_markdown(decode(data, "cp1252" if latin else declared)), ()


def _docx(data: bytes) -> tuple[str, tuple[str, ...]]:
    from quintet.data.documents.word import docx_to_markdown

    if data.startswith(OLD_OFFICE):
        raise UnreadableFileError("is protected by a password, or an old .doc; save a copy as .docx without a password")
    return docx_to_markdown(data), ()


def _pdf(data: bytes) -> tuple[str, tuple[str, ...]]:
    from quintet.data.documents.pdf import pdf_to_markdown

    text, notes = pdf_to_markdown(data)
    if 10 * len(NAMELESS_LETTER.findall(text)) > len(text.split()):
        raise UnreadableFileError("has fonts that do not say which letters they show; recognise its text first (OCR)")
    return text, notes


READERS: dict[str, Reader] = {
    ".md": _text,
    ".markdown": _text,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".docx": _docx,
    ".pdf": _pdf,
}
