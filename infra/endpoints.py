"""What an API endpoint is: its address, how it pages, how it is called."""

import html
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)
from yarl import URL

MEBIBYTE_BYTES = 1024 * 1024
SHORTEST_SECRET = 4
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Paging(StrEnum):
    """How an endpoint hands out more records than fit one response.

    A short page ends nothing, because a server may give less than it is asked for.
    """

    NONE = "none"
    PAGE = "page"
    """`?page=1`, `?page=2`, … until a page is empty, or, after the first, answers 404."""
    OFFSET = "offset"
    """`?offset=0&limit=100`, then the offset grows by what came, until a page is empty."""
    CURSOR = "cursor"
    """The response's `next_cursor` goes into the next request's `cursor`, until it is absent,
    null, empty or 0."""
    LINK = "link"
    """The response's Link header names the next page with rel="next" (RFC 8288)."""


class Endpoint(BaseModel):
    """One API endpoint, as written in SLUICEWAY_API_ENDPOINTS or given by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: HttpUrl
    """Its query is sent with every request except those that a Link header names, and shown
    in no message."""
    dataset: str = Field(default="", pattern=r"^([a-z][a-z0-9_]{0,42})?$")
    """The table name of the contract; by default `api_` and the last part of the URL's path."""
    paging: Paging = Paging.NONE
    page_parameter: Name = "page"
    first_page: int = Field(default=1, ge=0)
    offset_parameter: Name = "offset"
    limit_parameter: Name = "limit"
    page_size: int = Field(default=100, ge=1, le=100_000)
    """The limit that offset paging asks for; for page paging put the API's own into the URL."""
    cursor_parameter: Name = "cursor"
    cursor_field: Name = "next_cursor"
    """Where a response names the next cursor; dots go into nested objects."""
    records_field: str = ""
    """Where a response holds its records; dots go into nested objects. Empty: the response."""
    token: SecretStr | None = None
    """Sent as `Authorization: Bearer …`; white space around it is dropped."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent to the endpoint's own host only, as the token is."""
    proxy: SecretStr | None = None
    """The HTTP proxy to go through, http://user:password@host:port."""
    timeout_seconds: Positive = 30.0
    """How long one request may take, its body included."""
    attempts: int = Field(default=4, ge=1, le=20)
    requests_per_second: Positive = 10.0
    max_pages: int = Field(default=10_000, ge=1)
    max_bytes: int = Field(default=256 * MEBIBYTE_BYTES, ge=1)
    """The most that all pages together may hold, uncompressed."""

    @property
    def shown_url(self) -> str:
        """The address as a message may show it: without user, query and fragment."""
        return self.hide_secrets(show_url(str(self.url)))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that no message may hold."""
        given = [each for each in (self.token, self.proxy, *self.headers.values()) if each]
        from_query = (value for _, value in self.url.query_params())
        plain = {each.get_secret_value() for each in given} | set(from_query)
        # Authorization: Basic abc: the part behind the scheme is the secret as well.
        plain |= {each.rsplit(" ", 1)[-1] for each in plain}
        # Short values (a page size in the query) are no secrets and occur everywhere.
        long = (each for each in plain if len(each) >= SHORTEST_SECRET)
        return tuple(sorted(long, key=len, reverse=True))

    def page_url(self, *, pages: int = 0, records: int = 0, cursor: str | None = None) -> URL:
        """Return the address of the page that comes after so many pages and records."""
        query: dict[str, str] = {}
        if self.paging is Paging.PAGE:
            query[self.page_parameter] = str(self.first_page + pages)
        elif self.paging is Paging.OFFSET:
            query[self.offset_parameter] = str(records)
            query[self.limit_parameter] = str(self.page_size)
        elif cursor is not None:
            query[self.cursor_parameter] = cursor
        return URL(str(self.url)).with_fragment(None).update_query(query)

    def is_home(self, url: URL) -> bool:
        """Return whether scheme, host and port of the url are the endpoint's own."""
        # URL.origin() takes an explicit :443 for another origin.
        own = self.page_url()
        return (url.scheme, url.host, url.port) == (own.scheme, own.host, own.port)

    def secret_headers(self) -> dict[str, str]:
        """Return the headers that are meant for this endpoint's host and for no other."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        return headers

    def hide_secrets(self, text: str) -> str:
        """Return the text with every secret of this endpoint replaced, however it was escaped."""
        for secret in self.secrets:
            for form in (secret, quote(secret, safe=""), html.escape(secret)):
                text = text.replace(form, "***")
        return text

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show the address without its query, which may hold a key."""
        for name, value in super().__repr_args__():
            yield name, (self.shown_url if name == "url" else value)

    @field_serializer("url")
    def _show_without_query(self, _: HttpUrl) -> str:
        return self.shown_url

    @model_validator(mode="before")
    @classmethod
    def _take_a_bare_url(cls, given: object) -> object:
        return {"url": given} if isinstance(given, str) else given

    @field_validator("url")
    @classmethod
    def _refuse_credentials(cls, given: HttpUrl) -> HttpUrl:
        if given.username or given.password:
            message = "the address holds a user or a password; use token or headers for them"
            raise ValueError(message)
        return given

    @field_validator("token")
    @classmethod
    def _strip_token(cls, given: SecretStr | None) -> SecretStr | None:
        if given is None:
            return None
        bare = given.get_secret_value().strip()
        if not re.fullmatch(r"[!-~]+", bare):
            message = "the token is empty or holds spaces or characters that no header can carry"
            raise ValueError(message)
        return SecretStr(bare)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, given: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in given.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                message = f"{name!r} is no name of a header"
                raise ValueError(message)
            if not re.fullmatch(r"[\t -~]*", value.get_secret_value()):
                message = f"the value of header {name} holds characters that no header can carry"
                raise ValueError(message)
        return given

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not re.match(r"https?://[^/\s]+", given.get_secret_value()):
            message = "the proxy is no http:// or https:// address"
            raise ValueError(message)
        return given

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.token and any(name.lower() == "authorization" for name in self.headers):
            message = "token and headers both set Authorization; give one of them"
            raise ValueError(message)
        if self.paging is Paging.CURSOR and not self.records_field:
            message = (
                "cursor paging needs records_field: a response that names a cursor is an object"
            )
            raise ValueError(message)
        if not self.dataset:
            last = urlsplit(str(self.url)).path.rstrip("/").rsplit("/", 1)[-1]
            name = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")
            object.__setattr__(self, "dataset", f"api_{name or 'data'}"[:40])
        return self


def show_url(url: str) -> str:
    """Return the address without user, password, query and fragment."""
    return re.sub(r"//[^/@]*@", "//", re.sub(r"[?#].*", "", url, flags=re.DOTALL), count=1)
