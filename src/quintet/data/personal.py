"""Text → the personal data and secrets it seems to hold, masked; knows no rows and decides nothing.

Most texts hold nothing, and there may be millions: substrings and a count of digits, which cost a microsecond, decide
which of the costlier searches a text gets. What is published as an example (example.com, 555 telephone numbers, the
test cards of payment firms, `sk-xxxx`) is no finding, nor is a shared mailbox (info@) or a toll-free number.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneNumberType
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

# How far before and after a number its name ("PESEL", "social security") may stand.
CONTEXT_BEFORE = 50
CONTEXT_AFTER = 20
# A codice fiscale has seven digits; without letters nine are the fewest.
FEWEST_DIGITS = 7
FEWEST_NUMBER_DIGITS = 9


@dataclass(frozen=True)
class PersonalDatum:
    """What seems to be personal or secret, and how it looks with the telling part starred out."""

    kind: str
    excerpt: str


@dataclass(frozen=True)
class _Hit:
    start: int
    end: int
    finding: PersonalDatum


def find_personal(text: str) -> list[PersonalDatum]:
    """Return what seems to be personal data or a secret, in the order of the text, each masked."""
    hits = [*_secrets(text)]
    if "@" in text:
        hits += _emails(text)
    if sum(map(text.count, "0123456789")) >= FEWEST_DIGITS:
        hits += _numbers(text)
    # A stretch of text is reported once, as what was looked for first.
    kept: list[_Hit] = []
    for hit in hits:
        if not any(hit.start < other.end and other.start < hit.end for other in kept):
            kept.append(hit)
    return [hit.finding for hit in sorted(kept, key=lambda hit: hit.start)]


def _mask(text: str, last: int, first: int = 0) -> str:
    """Return the text with its letters and digits starred out, but for the first and last few of them."""
    places = [place for place, character in enumerate(text) if character.isalnum()]
    hidden = set(places[first : len(places) - last])
    return "".join("*" if place in hidden else character for place, character in enumerate(text))


# --- secrets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    """A vendor's form of token; `signs` are the substrings without which the pattern cannot match."""

    kind: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]


def _token(kind: str, signs: str, pattern: str) -> _Token:
    return _Token(kind, tuple(signs.split()), re.compile(rf"(?<![A-Za-z0-9_-])(?:{pattern})", re.ASCII))


TOKENS = (
    _token("AWS access key", "AKIA ASIA", r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    _token("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
           r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"),
    _token("GitLab token", "glpat- gldt- glrt- glptt- glagent-", r"gl(?:pat|dt|rt|ptt|agent)-[\w-]{20,}"),
    _token("Slack token", "xox xapp-", r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}"),
    _token("Slack webhook", "hooks.slack.com", r"https://hooks\.slack\.com/services/T\w+/B\w+/\w{16,}"),
    _token("Stripe key", "sk_live_ rk_live_", r"[sr]k_live_[0-9A-Za-z]{16,}"),
    _token("Google API key", "AIza", r"AIza[\w-]{35}"),
    # OpenAI and Anthropic among others; words such as sk-learn-compatible-estimators have no digits.
    _token("API key", "sk-", r"sk-(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{20,}"),
    _token("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    _token("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _token("PyPI token", "pypi-", r"pypi-[\w-]{50,}"),
    _token("SendGrid key", "SG.", r"SG\.[\w-]{20,}\.[\w-]{30,}"),
    _token("JSON web token", "eyJ", r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    _token("private key", "-----BEGIN", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
)  # fmt: skip
_SIGNED = [(sign, token) for token in TOKENS for sign in token.signs]

_ASSIGNED_NAMES = ("passw", "Passw", "PASSW", "pwd", "Pwd", "PWD", "passph", "Passph", "PASSPH", "secret", "Secret",
                   "SECRET", "api", "Api", "API", "token", "Token", "TOKEN", "access_key", "access-key", "accesskey",
                   "accessKey", "AccessKey", "ACCESS_KEY")  # fmt: skip
_ASSIGNMENT = re.compile(
    r"(?P<name>password|passwd|pwd|passphrase|secret|(?:api|access|secret)[_-]?key"
    r"|(?:auth|access|api|bearer|refresh)[_-]?token)"
    r"[\"']?[ \t]*(?::=|=>|[:=])[ \t]*(?P<quote>[\"'`]?)(?P<value>[^\s\"'`<>(){}\[\],;]{6,200})(?P=quote)",
    re.ASCII | re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:(?P<value>[^\s/@]{3,128})@", re.ASCII)
_MADE_UP = re.compile(
    r"xxxx|\*\*\*|\.\.\.|example|placeholder|your|1234567|abcdefg|redacted|dummy|changeme|change[_-]me|todo", re.I
)
_MADE_UP_PASSWORD = re.compile(
    r"password|passwd|secret|string|^test|^\$|%\(|^process\.|^os\.|^env|getenv|^self\.|^%\w+%$", re.I
)


def _secrets(text: str) -> Iterator[_Hit]:
    for sign, token in _SIGNED:
        if sign in text:
            for match in token.pattern.finditer(text):
                if sign in match[0] and (token.kind == "private key" or not _is_made_up(match[0])):
                    yield _Hit(*match.span(), PersonalDatum(token.kind, f"{sign}***"))
    if "://" in text and "@" in text:
        for match in _URL_PASSWORD.finditer(text):
            if not (_is_made_up(match["value"]) or _MADE_UP_PASSWORD.search(match["value"])):
                scheme = match[0].partition(":")[0]
                shown = scheme if scheme.isalpha() else "***"  # its digits may be somebody's number
                yield _Hit(*match.span(), PersonalDatum("password in a URL", f"{shown}://***:***@***"))
    if any(name in text for name in _ASSIGNED_NAMES) and ("=" in text or ":" in text):
        yield from _assignments(text)


def _assignments(text: str) -> Iterator[_Hit]:
    for match in _ASSIGNMENT.finditer(text):
        if _is_password(match["value"], quoted=bool(match["quote"])):
            yield _Hit(*match.span(), PersonalDatum("password or key", f"{match['name']} = ***"))


def _is_password(value: str, quoted: bool) -> bool:
    """Say whether a value assigned to a secret's name is one: "Password: required" is not."""
    if _is_made_up(value) or _MADE_UP_PASSWORD.search(value):
        return False
    value = value.rstrip(".!?:")
    kinds = sum(any(test(c) for c in value) for test in (str.islower, str.isupper, str.isdigit))
    kinds += any(not c.isalnum() and c not in "-_./:" for c in value)
    return len(value) >= 6 and not value.isdigit() and (kinds >= 2 if quoted else kinds >= 3)


def _is_made_up(secret: str) -> bool:
    return bool(_MADE_UP.search(secret)) or len(set(secret)) < 5


# --- e-mail addresses --------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/:-])(?P<local>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63})"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9-])"
)
# RFC 2606 and RFC 6761 keep these for examples and tests.
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local"
    # Microsoft's fictional companies, in much public text, and what OData appends to the names of fields.
    r"|(?:contoso|fabrikam|northwindtraders|adventure-works)\.com|odata\.[a-z]+"
    # An icon for dense screens: logo@2x.png.
    r"|^[1-4]x\.[a-z]+)$",
    re.IGNORECASE,
)
# RFC 2142's mailboxes of a role, and the usual others: they name no person, alone or as in people-team@.
SHARED_MAILBOXES = frozenset(
    "info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp "
    "noreply no-reply donotreply do-not-reply help helpdesk contact contactus hello office hr jobs careers recruiting "
    "privacy press media billing accounts accounting finance legal compliance team teams admin service customerservice "
    "feedback enquiries inquiries orders it git ops people onboarding events travel community notifications".split()
)


def _emails(text: str) -> Iterator[_Hit]:
    for match in _EMAIL.finditer(text):
        local, domain = match["local"], match["domain"]
        if _EXAMPLE_DOMAIN.search(domain) or _is_shared(local.lower()):
            continue
        first = local[0] if len(local) > 2 else ""
        yield _Hit(*match.span(), PersonalDatum("e-mail address", f"{first}***@***.{domain.rpartition('.')[2]}"))


def _is_shared(mailbox: str) -> bool:
    return mailbox in SHARED_MAILBOXES or not SHARED_MAILBOXES.isdisjoint(mailbox.split("-"))


# --- numbers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _National:
    """A kind of number: how it is written, its checksum, and the names one of which must stand near it, if any."""

    kind: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool]
    names: tuple[str, ...] = ()
    first_shown: int = 0


def _national(kind: str, pattern: str, is_valid: Callable[[str], bool], names: str = "", shown: int = 0) -> _National:
    bounded = re.compile(rf"(?<![A-Za-z0-9.#/-])(?:{pattern})(?![A-Za-z0-9]|[-./]\d)", re.ASCII)
    return _National(kind, bounded, is_valid, tuple(names.split("|")) if names else (), shown)


# A number needs no name beside it where its grouping is nobody else's or its checksum is strong; else it does.
NATIONAL = (
    _national("IBAN", r"[A-Z]{2}\d\d ?[A-Z0-9]{4}(?: ?(?=[A-Z]{0,3}\d)[A-Z0-9]{4}){1,6}"
              r"(?: ?(?=[A-Z]{0,2}\d)[A-Z0-9]{1,3})?", iban.is_valid, shown=2),
    _national("Italian codice fiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", codicefiscale.is_valid),
    _national("Spanish NIE", r"[XYZ]-?\d{7}-?[A-Z]", nie.is_valid),
    _national("Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
    _national("US social security number", r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
    _national("French NIR", r"[12] \d\d \d\d (?:\d\d|2[AB]) \d{3} \d{3} \d\d", nir.is_valid),
    _national("French NIR", r"[12]\d{4}(?:\d\d|2[AB])\d{8}", nir.is_valid,
              "nir|insee|sécurité sociale|securite sociale|social security"),
    _national("US social security number", r"\d{9}", ssn.is_valid, "ssn|social security"),
    _national("UK NHS number", r"\d{3}[ -]?\d{3}[ -]?\d{4}", nhs.is_valid, "nhs"),
    _national("German tax number", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", idnr.is_valid,
              "idnr|id-nr|steuer|tax id|tax number|tax identification"),
    _national("Spanish DNI", r"\d{8}-?[A-Z]|\d\d\.\d{3}\.\d{3}-?[A-Z]", lambda n: dni.is_valid(n.replace(".", "")),
              "dni|nif|documento nacional"),
    _national("Dutch BSN", r"\d{9}|\d{4}\.\d{2}\.\d{3}", bsn.is_valid, "bsn|burgerservicenummer|sofinummer"),
    _national("Polish PESEL", r"\d{11}", pesel.is_valid, "pesel"),
    _national("Brazilian CPF", r"\d{11}", cpf.is_valid, "cpf"),
    _national("Indian Aadhaar", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", aadhaar.is_valid, "aadhaar|aadhar|uidai|आधार"),
)  # fmt: skip

# ISO dates are the commonest long runs of digits, and none of these numbers.
_LONG_NUMBER = re.compile(r"(?<![A-Za-z0-9])(?!\d{4}-\d\d-\d\d)\+?[0-9][0-9 .()/-]{5,}[0-9]", re.ASCII)
_LETTERED_NUMBER = re.compile(
    r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}|[XYZ]-?[0-9]{7}|[A-Z]{6}[0-9]{2}|[0-9][.0-9]{6,8}[0-9]-?[A-Z]", re.ASCII
)
_CARD = re.compile(
    r"(?<![A-Za-z0-9.#/+-])(?:\d{14,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5})"
    r"(?![A-Za-z0-9]|[-./]\d)",
    re.ASCII,
)


def _numbers(text: str) -> Iterator[_Hit]:
    has_long = any(map(_may_be_a_number, _LONG_NUMBER.findall(text)))
    if not (has_long or _LETTERED_NUMBER.search(text)):
        return
    lowered = text.lower()
    for national in NATIONAL:
        if not national.names or any(name in lowered for name in national.names):
            for match in national.pattern.finditer(text):
                if not national.is_valid(match[0]) or re.sub(r"\W", "", match[0]) in PUBLISHED_NUMBERS:
                    continue
                around = lowered[max(match.start() - CONTEXT_BEFORE, 0) : match.end() + CONTEXT_AFTER]
                if not national.names or any(name in around for name in national.names):
                    yield _Hit(*match.span(), PersonalDatum(national.kind, _mask(match[0], 2, national.first_shown)))
    if has_long:
        yield from _cards(text)
        yield from _phones(text)


def _may_be_a_number(digits: str) -> bool:
    # Nothing looked for has fewer than nine digits, but for short numbers in international form.
    return digits[0] == "+" or sum(map(str.isdigit, digits)) >= FEWEST_NUMBER_DIGITS


# Numbers printed in manuals as examples.
PUBLISHED_NUMBERS = frozenset(
    "DE89370400440532013000 GB82WEST12345698765432 GB29NWBK60161331926819 FR1420041010050500013M02606 "
    "12345678Z X1234567L 123456789 12345678909 11144477735 RSSMRA85T10A562S".split()
)

# ISO/IEC 7812 prefixes and lengths, as the card networks publish them. Visa's old 13 digits are left to bar codes.
_CARD_ISSUERS = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14}(?:\d{3})?"  # UnionPay
)
TEST_CARDS = frozenset(
    "4111111111111111 4242424242424242 4012888888881881 4000000000000002 4000056655665556 5555555555554444 "
    "5105105105105100 5200828282828210 2223003122003222 378282246310005 371449635398431 378734493671000 "
    "6011111111111117 6011000990139424 30569309025904 38520000023237 3530111333300000 3566002020360505 "
    "6200000000000005".split()
)


def _cards(text: str) -> Iterator[_Hit]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if _CARD_ISSUERS.fullmatch(digits) and digits not in TEST_CARDS and luhn.is_valid(digits):
            yield _Hit(*match.span(), PersonalDatum("payment card", _mask(match[0], 4)))


# --- telephone numbers -------------------------------------------------------------------------------------------

_INTERNATIONAL = re.compile(r"(?<![A-Za-z0-9+])\+ ?[1-9](?:[ .()/-]{0,2}\d){6,14}(?!\d)", re.ASCII)
_US_STYLE = re.compile(
    r"(?<![A-Za-z0-9.#/$+-])(?:1[ .-])?(?:\(\d{3}\) ?\d{3}[ .-]|\d{3}([.-])\d{3}\1)\d{4}(?![A-Za-z0-9]|[-./]\d)",
    re.ASCII,
)
# Of a person or an office; a number anyone may call free or at a premium names nobody.
_PERSONAL_TYPES = frozenset(
    {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.FIXED_LINE_OR_MOBILE, PhoneNumberType.VOIP,
     PhoneNumberType.PERSONAL_NUMBER, PhoneNumberType.PAGER}
)  # fmt: skip
# Kept for fiction: the exchange 555 of North America, and Ofcom's ranges for drama.
_FICTION = re.compile(r"\+1\d{3}555\d{4}|\+44(?:7700900|2079460|1632960|1134960|1214960|1314960|1414960|1614960)\d{3}")


def _phones(text: str) -> Iterator[_Hit]:
    for pattern, region in ((_INTERNATIONAL, None), (_US_STYLE, "US")):
        for match in pattern.finditer(text):
            if _is_phone(match[0], region):
                yield _Hit(*match.span(), PersonalDatum("telephone number", _mask(match[0], 2)))


def _is_phone(text: str, region: str | None) -> bool:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    if phonenumbers.number_type(number) not in _PERSONAL_TYPES:  # UNKNOWN where the number is not valid.
        return False
    return not _FICTION.fullmatch(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
