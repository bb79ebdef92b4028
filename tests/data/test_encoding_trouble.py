import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintet.data.encoding_trouble import TROUBLES, find_encoding_trouble

# Written as escapes, so that what is invisible can be seen here.
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


def wrongly_read(text: str, table: str = "cp1252") -> str:
    return text.encode().decode(table)


@pytest.mark.parametrize("text", ["café", "It doesn’t", "£50", "“Hello…", "München", "×", "Привет"])  # noqa: RUF001
def test_utf8_read_as_another_table_is_shown_with_what_it_was(text: str) -> None:
    (phrase,) = find_encoding_trouble("We say " + text.encode().decode("latin-1"))
    assert phrase.startswith("mojibake at character ")
    assert text.split()[-1] in phrase
    assert "decode the file as what it is, mostly UTF-8" in phrase


def test_mojibake_names_the_word_and_its_place() -> None:
    assert find_encoding_trouble(f"The {wrongly_read('café')} is open.") == [
        f"mojibake at character 8: {wrongly_read('café')!r} was 'café'; "
        "decode the file as what it is, mostly UTF-8"
    ]  # fmt: skip


def test_windows_quotes_read_as_latin_1_are_mojibake() -> None:
    (phrase,) = find_encoding_trouble("don\x92t")
    assert "was 'don\u2019t'" in phrase


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a\x00b\x07", "control character U+0000 at character 2 and 1 more; remove it"),
        ("a\x7f", "control character U+007F at character 2; remove it"),
        ("caf\ufffd", "replacement character U+FFFD at character 4; a character was lost here, take it from"),
        ("a\ud83d", "half a character (a lone surrogate) U+D83D at character 2; mend the text"),
        ("zero\u200bwidth", "invisible character U+200B at character 5; remove it"),
        ("end\u2060", "invisible character U+2060 at character 4; remove it"),
        ("join\u200der", "invisible joiner inside a word U+200D at character 5; remove it"),
        ("soft\u00adhyphen", "invisible soft hyphen U+00AD at character 5; remove it"),
        ("a\ufeffb", "byte order mark inside the text U+FEFF at character 2; remove it"),
        ("pay \u202eeno\u202c", "invisible change of direction U+202E at character 5 and 1 more; remove it"),
        ("pay \u2066one\u2069", "invisible change of direction U+2066 at character 5 and 1 more; remove it"),
        ("\uf0b7 first", "private-use character U+F0B7 at character 1; replace it"),
        ("\U000f0001", "private-use character U+F0001 at character 1; replace it"),
        ("\ufdd0", "code that is no character U+FDD0 at character 1; remove it"),
        ("hi\U000e0041", "invisible tag character U+E0041 at character 3; remove it, it can hide text"),
    ],
)
def test_each_damage_is_named_with_its_place_and_fix(text: str, phrase: str) -> None:
    (found,) = find_encoding_trouble(text)
    assert found.startswith(phrase)


def test_two_kinds_are_two_phrases() -> None:
    assert len(find_encoding_trouble("a\x00b\ufffdc\x00")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "Plain text,\twith tab\r\nand lines.",
        "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d \u2026 5 \u20ac, \u00a33, \u00bd, \u00b1 2 \u00b0C, A\u00a0B",
        "\u00dcber \u00c4rger, \u00e7\u00e0 et l\u00e0, \u0141\u00f3d\u017a, \u00bfqu\u00e9?",
        "\u0915\u094d\u200d\u0937 \u0928\u092e\u0938\u094d\u200c\u0924\u0947",  # Hindi with both joiners
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 PDF\u200c\u0647\u0627",  # Persian with its non-joiner
        "\u0627\u0644\u0633\u0644\u0627\u0645 \u200f123\u200e \u2067abc\u2069 \u202babc\u202c",  # Arabic and marks
        "\u05e9\u05dc\u05d5\u05dd \u2068HR\u2069",
        "\u0e20\u0e32\u0e29\u0e32\u200b\u0e44\u0e17\u0e22",  # Thai with its word break
        "\U0001f469\u200d\U0001f4bb \u2764\ufe0f 1\ufe0f\u20e3 \U0001f468\u200d\U0001f469\u200d\U0001f467 " + ENGLAND,
        "\u65e5\u672c\u8a9e\u306e\u6587\u3002\u4e2d\u6587\uff01 \ud55c\uad6d\uc5b4",
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u03b1\u03b2\u03b3",
        "",
    ],
)
def test_proper_text_of_any_language_has_no_trouble(text: str) -> None:
    assert find_encoding_trouble(text) == []


def test_the_table_covers_each_suspect_once_and_in_order() -> None:
    spans = sorted((trouble.first, trouble.last) for trouble in TROUBLES)
    assert all(last < following for (_, last), (following, _) in pairwise(spans))
    assert all("; " in trouble.phrase for trouble in TROUBLES)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_read_and_answered_in_printable_phrases(text: str) -> None:
    for phrase in find_encoding_trouble(text):
        assert not {unicodedata.category(character) for character in phrase} & {"Cc", "Cs"}


@given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)))
def test_printable_ascii_has_no_trouble(text: str) -> None:
    assert find_encoding_trouble(text) == []


@given(st.text(), st.sampled_from(["cp1252", "latin-1", "cp1251", "cp437", "mac_roman"]))
def test_text_read_by_any_wrong_table_is_answered(text: str, table: str) -> None:
    read = text.encode().decode(table, "replace")
    phrases = find_encoding_trouble(read)
    assert all(phrase.isprintable() for phrase in phrases)
    # What a table has no character for is always told of.
    assert phrases or "\ufffd" not in read
