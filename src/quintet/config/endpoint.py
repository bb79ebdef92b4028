"""Settings of one OpenAI-compatible endpoint: its URL, its model, its key. Sends nothing."""

import re
from dataclasses import dataclass, field

from quintet.errors import ConfigError

_ROUTES = re.compile(r"/(chat/completions|completions|embeddings|audio/transcriptions)\Z")


@dataclass(frozen=True)
class EndpointSettings:
    """Whom to ask: the URL as given, the model's name, the key, and the name of the variable that held it.

    `role` is what errors call the model, `go_on` what they tell the user to do once the trouble is over. Raises
    ConfigError when the URL is no address, or the key cannot be sent.
    """

    url: str = field(repr=False)
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "QUINTET_KEY"
    role: str = "model"
    go_on: str = "run the same command again"
    chat_url: str = field(init=False, repr=False)
    text_url: str = field(init=False, repr=False)
    embeddings_url: str = field(init=False, repr=False)
    transcriptions_url: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import httpx

        try:
            url = httpx.URL(self.url.strip())
        except httpx.InvalidURL:
            url = httpx.URL()
        is_address = url.scheme in ("http", "https") and bool(url.host)
        if url.userinfo or (not is_address and "@" in self.url):
            put_it = f"put it in ${self.key_name} and name the URL bare"
            raise ConfigError(f"the {self.role}'s URL holds a password; {put_it}")
        if not is_address:
            raise ConfigError(f"the {self.role}'s URL {self.shown_url!r} is none; expected one such as https://host/v1")
        base = url.copy_with(path=_ROUTES.sub("", url.path.rstrip("/")) or "/v1")
        routes = {
            "chat_url": "/chat/completions",
            "text_url": "/completions",
            "embeddings_url": "/embeddings",
            "transcriptions_url": "/audio/transcriptions",
        }
        for name, route in routes.items():
            object.__setattr__(self, name, str(base.copy_with(path=base.path + route)))
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(f"the key in ${self.key_name} holds characters that no key has; copy it anew")

    @property
    def shown_url(self) -> str:
        """The URL for eyes and files: without its query, which may hold a secret."""
        return _without_query(self.url.strip())

    @property
    def headers(self) -> dict[str, str]:
        """What each request is sent with."""
        own = {"Content-Type": "application/json"}
        return own | {"Authorization": f"Bearer {self.key}"} if self.key else own

    def hide(self, text: str) -> str:
        """Return the text without key and URL's query; call it before anything is cut off, so that no half stays."""
        query = self.url.strip().partition("?")[2]
        secrets = {"(the key)": self.key, "(the query)": query}
        for name, secret in secrets.items():
            text = text.replace(secret, name) if secret else text
        return text


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]
