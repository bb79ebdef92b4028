"""Every secret here is put together from pieces, so that scanners of this repository have nothing to find."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quintet.data.personal import PersonalDatum, find_personal

# Random letters and digits: no pattern of a made-up value, no word.
NOISE = "Q7rT2vLx9KpZ4mWs8NcB3hYd6FgJ5uEa1DqRtVwXyPkLzM0oIiCsGbHnAfUe" + "q7Rt2VlX9kPz4MwS8nCb3HyD6fGj5UeA"
UPPER = "Q7RT2VLX9KPZ4MWS8NCB"


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in find_personal(text)]


# kind, the text around it with {} for the secret, the secret, its excerpt
FOUND = [
    ("e-mail address", "Write to {}.", "jo.quill@" + "kestrel-mills.org", "j***@***.org"),
    ("e-mail address", "<{}>", "jq@" + "mail.kestrel-mills.co.uk", "***@***.uk"),
    ("telephone number", "Call {} today", "+44 20 7219 3000", "+** ** **** **00"),
    ("telephone number", "Tel: {}", "+4930184000", "+********00"),
    ("telephone number", "phone {}.", "(202) 456-1414", "(***) ***-**14"),
    ("telephone number", "phone {}, please", "202-456-1414", "***-***-**14"),
    ("telephone number", "at {}", "1 202.456.1414", "* ***.***.**14"),
    ("payment card", "Charge {} please", "4502 4722" + " 8238 2213", "**** **** **** 2213"),
    ("payment card", "card {}", "53632749" + "34920399", "************0399"),
    ("payment card", "card {}", "2300-4676" + "-2135-5704", "****-****-****-5704"),
    ("payment card", "Amex {}", "3710 429014" + " 76039", "**** ****** *6039"),
    ("payment card", "card {}", "60116946" + "95639918", "************9918"),
    ("payment card", "card {}", "35296603" + "64455565", "************5565"),
    ("payment card", "card {}", "361296" + "62772693", "**********2693"),
    ("payment card", "card {}", "62583208" + "37775095", "************5095"),
    ("IBAN", "to {} AND then", "DE67 2318 1395" + " 7169 3947 44", "DE** **** **** **** **** 44"),
    ("IBAN", "to {}", "FR47496129726" + "52261073577177", "FR***********************77"),
    ("US social security number", "I am {}.", "899-64" + "-0127", "***-**-**27"),
    ("US social security number", "My SSN is {}", "89964" + "0127", "*******27"),
    ("UK NHS number", "NHS number: {}", "943 646" + " 8695", "*** *** **95"),
    ("German tax number", "Steuer-ID {}", "48 741" + " 592 632", "** *** *** *32"),
    ("French NIR", "It is {}", "1 85 05 50 276" + " 644 44", "* ** ** ** *** *** 44"),
    ("French NIR", "INSEE {}", "1850550" + "27664444", "*************44"),
    ("Spanish DNI", "DNI {}", "541167" + "61S", "*******1S"),
    ("Spanish DNI", "NIF: {}", "54.116" + ".761-S", "**.***.**1-S"),
    ("Spanish NIE", "with {}", "Y8562" + "666X", "*******6X"),
    ("Italian codice fiscale", "with {}", "QXWZKB80A" + "01H501P", "**************1P"),
    ("Dutch BSN", "burgerservicenummer {}", "20381" + "0302", "*******02"),
    ("Polish PESEL", "PESEL: {}", "850331" + "54775", "*********75"),
    ("Brazilian CPF", "with {}", "529.283" + ".612-51", "***.***.***-51"),
    ("Brazilian CPF", "CPF {}", "529283" + "61251", "*********51"),
    ("Indian Aadhaar", "Aadhaar: {}", "5886 5412" + " 7417", "**** **** **17"),
    ("AWS access key", "key {}", "AK" + "IA" + UPPER[:16], "AKIA***"),
    ("GitHub token", "use {}", "gh" + "p_" + NOISE[:36], "ghp_***"),
    ("GitHub token", "use {}", "github" + "_pat_" + NOISE[:40], "github_pat_***"),
    ("GitLab token", "use {}", "gl" + "pat-" + NOISE[:20], "glpat-***"),
    ("Slack token", "use {}", "xo" + "xb-2718-" + NOISE[:24], "xox***"),
    ("Slack webhook", "post to {}", "https://hooks.slack" + ".com/services/T0Q7/B9K2/" + NOISE[:24],
     "hooks.slack.com***"),
    ("Stripe key", "use {}", "sk" + "_live_" + NOISE[:24], "sk_live_***"),
    ("Google API key", "use {}", "AI" + "za" + NOISE[:35], "AIza***"),
    ("API key", "use {}", "sk" + "-proj-" + NOISE[:40], "sk-***"),
    ("Hugging Face token", "use {}", "h" + "f_" + NOISE[:34], "hf_***"),
    ("npm token", "use {}", "np" + "m_" + NOISE[:36], "npm_***"),
    ("PyPI token", "use {}", "py" + "pi-" + NOISE[:60], "pypi-***"),
    ("SendGrid key", "use {}", "S" + "G." + NOISE[:22] + "." + NOISE[:43], "SG.***"),
    ("JSON web token", "use {}", "ey" + "J" + NOISE[:12] + ".ey" + "J" + NOISE[:20] + "." + NOISE[:30], "eyJ***"),
    ("private key", "{}\nMII", "-----BEGIN RSA " + "PRIVATE KEY-----", "-----BEGIN***"),
    ("password or key", "{}", "password = " + "Tr0ub4dor&3", "password = ***"),
    ("password or key", "set {} now", "DB_PASSWORD=" + "kite7Lantern", "PASSWORD = ***"),
    ("password or key", "{{ {} }}", '"api_key": "' + NOISE[:16] + '"', "api_key = ***"),
    ("password in a URL", "see {}/db", "postgres://app:" + "kite7Lantern@db.kestrel-mills.org", "postgres://***:***@***"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "around", "secret", "excerpt"), FOUND)
def test_each_kind_is_found_once_and_masked(kind: str, around: str, secret: str, excerpt: str) -> None:
    assert find_personal(around.format(secret)) == [PersonalDatum(kind, excerpt)]


@pytest.mark.parametrize(
    "text",
    [
        "The course costs $1,250.00, or 12 x 104.17, since 2024-03-15 at 09:30:00 (15.03.2024, 03/15/2024).",
        "Years 2019 2020 2021 2022; 1999-2004; 10 000 000 000; 1,234,567,890.12; -1234567890.",
        "Extension 2100, room 314-159, ticket HR-10234, order 20240315-0042, PO 4500012345, invoice #2024-000123456.",
        "Version 1.22.333.4444, IP 192.168.100.200, build 20240315093000, part 123-456-7890, SKU 4006381333931.",
        "ISBN 978-3-16-148410-0, ISBN-10 0-306-40615-2, ISSN 2049-3630, DOI 10.1000/182-2024-00123.",
        "UUID 123e4567-e89b-12d3-a456-426614174000, commit 3f2504e04f8911d39a0c0305e82c3301, 1710495000000 ms.",
        "Dial 911, 112 or 0800 123 456; toll free 1-800-275-2273 or (888) 275-2273.",
        "Call 202-555-0123, (555) 123-4567, +1 212 555 0199, +44 7700 900123 or +44 20 7946 0018.",
        "Card 4111 1111 1111 1111, 4242424242424242, 378282246310005 for tests; 4502 4722 8238 2214 has a slip.",
        "SSN 078-05-1120, 123-45-6789, 000-12-3456 or 987-65-4321; IBAN DE89 3704 0044 0532 0130 00.",
        "DE68 2318 1395 7169 3947 44 has a slip; 203810302, 9436468695, 85033154775, 54116761S are without names.",
        "Write to jo@example.com, jo@shop.example, jo@kestrel.test, info@kestrel-mills.org, people-team@kestrel.org.",
        "Follow @kestrel, meet @ 9.30, a@b, user@host, git@github.com:kestrel/mills.git, logo@2x.png costs 5@3.",
        "Use sk-xxxxxxxxxxxxxxxxxxxxxxxx, sk-your-key-goes-here-2024, ghp_"
        + "x" * 36
        + " or AK"
        + "IAIOSFODNN7EXAMPLE.",
        "The sk-learn-compatible-estimators, risk-2024-assessment-of-2025-plans and task-force-of-the-2024-board.",
        "sk" + "_test_" + NOISE[:24] + " is a test key.",
        "Password: required. Password: minimum. Your password = your name? Secret: none. Token: see below.",
        "password=os.environ['DB_PASSWORD'], api_key = ${API_KEY}, pwd=********, secret: <your secret>, token=%TOKEN%.",
        "The password policy: 12 characters. Forgot password? Passwords: 90 days. API key: ask the API team.",
        "postgres://user:password@localhost/db and https://kestrel-mills.org/a:b@c",
    ],
)
def test_near_misses_and_placeholders_are_no_findings(text: str) -> None:
    assert find_personal(text) == []


def test_findings_stand_in_the_order_of_the_text() -> None:
    text = f"{'gh' + 'p_' + NOISE[:36]} jo.quill@kestrel-mills.org (202) 456-1414 amy.quill@kestrel-mills.org"
    assert kinds(text) == ["GitHub token", "e-mail address", "telephone number", "e-mail address"]


def test_two_tokens_of_one_vendor_are_each_shown_by_their_own_prefix() -> None:
    text = " ".join("gh" + letter + "_" + NOISE[:36] for letter in "po")
    assert [finding.excerpt for finding in find_personal(text)] == ["ghp_***", "gho_***"]


@pytest.mark.parametrize("name", ["access_key", "AccessKey", "ACCESS_KEY", "Pwd", "passphrase", "Secret", "auth-token"])
def test_a_secret_is_known_by_what_it_is_assigned_to(name: str) -> None:
    assert kinds(f"{name} = '{NOISE[:20]}'") == ["password or key"]


def test_a_number_needs_its_name_near_it() -> None:
    number = "85033" + "154775"
    assert kinds(f"PESEL {number}") == ["Polish PESEL"]
    assert kinds(f"PESEL {'and so on ' * 10}{number}") == []


@pytest.mark.parametrize("domain", ["example.com", "mail.example.org", "shop.example", "a.test", "b.invalid"])
def test_domains_kept_for_examples_are_no_findings(domain: str) -> None:
    assert kinds(f"jo.quill@{domain}") == []


def telling(secret: str) -> str:
    return re.sub(r"\W", "", secret)


NAMES = st.from_regex(r"[a-z][a-z0-9.]{2,20}[a-z0-9]", fullmatch=True)


@given(NAMES, NAMES)
def test_no_excerpt_holds_an_address(local: str, name: str) -> None:
    for finding in find_personal(f"Mail {local}@{telling(name)}.org"):
        assert finding.excerpt == f"{local[0]}***@***.org"


@given(st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=36, max_size=36))
def test_no_excerpt_holds_any_of_a_token(noise: str) -> None:
    assume(len(set(noise)) > 8)
    for text in (f"gh{'p_'}{noise}", f"password = '{noise}'", f"sk{'-'}{noise}"):
        for finding in find_personal(text):
            assert not any(noise[place : place + 4] in finding.excerpt for place in range(33))


@given(st.text("0123456789 -+().", min_size=7, max_size=40))
def test_no_excerpt_holds_more_of_a_number_than_its_end(text: str) -> None:
    names = "SSN NHS PESEL BSN CPF DNI Steuer INSEE Aadhaar"
    for finding in find_personal(f"{names} {text}"):
        shown = telling(finding.excerpt).replace("*", "")
        assert len(shown) <= (4 if finding.kind == "payment card" else 2)
        assert finding.excerpt.count("*") >= 6


PIECES = st.sampled_from([secret for _, _, secret, _ in FOUND] + ["@", "://", ":", "=", "password", "+", "é", "\ud800"])


@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=())), PIECES), max_size=8).map("".join))
def test_any_text_is_read_and_never_leaks_a_whole_secret(text: str) -> None:
    excerpts = [finding.excerpt for finding in find_personal(text)]
    assert not [secret for _, _, secret, _ in FOUND for excerpt in excerpts if secret in excerpt]


def test_the_sample_company_holds_no_personal_data() -> None:
    folder = Path(__file__).parents[2] / "src/quintet/sample/departments"
    found = [(file.name, f) for file in sorted(folder.glob("*.jsonl")) for f in find_personal(file.read_text("utf-8"))]
    assert found == []


def test_digits_in_a_urls_scheme_are_not_shown() -> None:
    (found,) = find_personal("a+4930184000://app:kite7Lantern@db.kestrel-mills.org")
    assert found.excerpt == "***://***:***@***"
