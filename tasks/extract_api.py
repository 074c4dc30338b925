"""The records of an API endpoint: every page of it, each once, with nothing rounded or lost."""

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from infra.endpoints import Endpoint, Paging
from infra.http import READABLE, SYSTEM_CLOCK, Answer, Clock, get
from schemas.errors import RefusedError, TransientError
from tasks.json_records import MAX_DEPTH, read_json, write_json

EXCERPT_CHARACTERS = 80
NO_CONTENT, NOT_FOUND = 204, 404


@dataclass(frozen=True, slots=True)
class Fetched:
    """All that an endpoint answered, page after page."""

    records: tuple[Any, ...]
    """In the order they came; objects are dicts, numbers are text of type Number."""
    sha256: str
    """Of the records alone, whatever their paging, spacing and order of keys: an answer with the
    same sum has nothing new."""
    pages: int
    """Answers read, the empty one that ended the paging included."""
    fetched_at: dt.datetime
    """When the first request was made: what changed later may be missing."""
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Walk:
    """What is known so far of the way through the pages."""

    endpoint: Endpoint
    records: list[Any] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    visited: dict[URL, int] = field(default_factory=dict)
    seen: dict[bytes, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_bytes: int = 0


async def fetch_endpoint(
    session: aiohttp.ClientSession, endpoint: Endpoint, *, clock: Clock = SYSTEM_CLOCK
) -> Fetched:
    """Return every record of the endpoint; all pages were read, or an error is raised.

    Raises TransientError when the API is down, slow or busy, TerminalError when it says no,
    RefusedError when its answer cannot be read or its pages do not end. Nothing is written, so
    a repetition is always safe.
    """
    fetched_at = clock.now()
    walk = _Walk(endpoint, left_bytes=endpoint.max_bytes)
    url: URL | None = endpoint.page_url()
    while url is not None:
        number = len(walk.visited) + 1
        if number > endpoint.max_pages:
            message = (
                f"{endpoint.shown_url} has more than {endpoint.max_pages} pages, so none was "
                "taken; raise the endpoint's max_pages if that is right."
            )
            raise RefusedError(message)
        # Page paging beyond the last page is answered with 404 by many frameworks.
        ends = number > 1 and endpoint.paging is Paging.PAGE
        readable = READABLE | {NOT_FOUND} if ends else READABLE
        answer = await get(
            session, endpoint, url, max_bytes=walk.left_bytes, readable=readable, clock=clock
        )
        walk.visited[url] = number
        walk.left_bytes -= len(answer.body)
        walk.notes.extend(answer.notes)
        # A large page takes seconds to decode; the loop has other endpoints to serve.
        url = await asyncio.to_thread(_take_page, walk, answer, number)
        if url is not None and url in walk.visited:
            message = (
                f"Page {number} of {endpoint.shown_url} names page {walk.visited[url]} as the "
                "next one, so its pages never end and none was taken; tell the API's owner."
            )
            raise RefusedError(message)
    return Fetched(
        records=tuple(walk.records),
        sha256=walk.digest.hexdigest(),
        pages=len(walk.visited),
        fetched_at=fetched_at,
        notes=tuple(endpoint.hide_secrets(note) for note in walk.notes),
    )


def _take_page(walk: _Walk, answer: Answer, number: int) -> URL | None:
    """Add the page's records to the walk and return the address of the next page."""
    endpoint = walk.endpoint
    where = f"Page {number} of {endpoint.shown_url}"
    if answer.status == NOT_FOUND:
        walk.notes.append(f"{where} is answered with 404, which was taken for the end")
        return None
    empty = answer.status == NO_CONTENT
    payload = None if empty else _decode(answer, endpoint)
    records = [] if empty else _pick_records(payload, endpoint, where)
    page_digest = hashlib.sha256()
    try:
        for record in records:
            line = write_json(record, sort_keys=True).encode("utf-8", "surrogatepass") + b"\n"
            page_digest.update(line)
            walk.digest.update(line)
    except RecursionError:
        message = f"{where} is nested more than {MAX_DEPTH} levels deep; no table can hold it."
        raise RefusedError(message) from None
    if records:
        earlier = walk.seen.setdefault(page_digest.digest(), number)
        if earlier != number:
            message = (
                f"{where} repeats page {earlier}, so nothing was taken; check that the API knows "
                f"the endpoint's paging '{endpoint.paging}' and its parameters."
            )
            raise RefusedError(message)
    walk.records.extend(records)
    return _find_next(walk, answer, payload, len(records), where)


def _find_next(walk: _Walk, answer: Answer, payload: Any, count: int, where: str) -> URL | None:
    endpoint, pages = walk.endpoint, len(walk.visited)
    if endpoint.paging is Paging.LINK:
        return answer.next_url
    if endpoint.paging is Paging.NONE:
        if answer.next_url is not None:
            walk.notes.append(f"{where} names a next page, which paging 'none' does not read")
        return None
    if endpoint.paging is not Paging.CURSOR:
        return endpoint.page_url(pages=pages, records=len(walk.records)) if count else None
    found, cursor = _find(payload, endpoint.cursor_field)
    if not found and pages == 1:
        walk.notes.append(f"{where} has no '{endpoint.cursor_field}': taken for the only one")
    if cursor is None or cursor is False:
        return None
    if not isinstance(cursor, str):
        message = (
            f"{where} has a '{endpoint.cursor_field}' that is neither text nor number; "
            "set the endpoint's cursor_field."
        )
        raise RefusedError(message)
    return None if cursor in {"", "0"} else endpoint.page_url(cursor=str(cursor))


def _decode(answer: Answer, endpoint: Endpoint) -> Any:
    """Return the body as JSON, numbers as text; RefusedError says what came instead."""
    encoding: str = json.detect_encoding(answer.body)
    if encoding == "utf-8" and answer.charset is not None:
        with contextlib.suppress(LookupError, UnicodeError):
            "".encode(answer.charset)  # not every codec is one for text
            encoding = answer.charset
    try:
        return read_json(answer.body.decode(encoding))
    except UnicodeError:
        problem = f"is no {encoding} text"
    except json.JSONDecodeError as error:
        problem = f"is no JSON at line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = f"is nested more than {MAX_DEPTH} levels deep"
    excerpt = endpoint.hide_secrets(answer.body[:10_000].decode(encoding, "replace"))
    message = (
        f"The answer of {endpoint.shown_url} {problem}; its content type is "
        f"'{endpoint.hide_secrets(answer.content_type)[:EXCERPT_CHARACTERS]}' and it begins with "
        f"{excerpt[:EXCERPT_CHARACTERS]!r}. Check the endpoint's url, or tell its owner."
    )
    raise RefusedError(message) if answer.has_length else TransientError(message)


def _find(payload: Any, path: str) -> tuple[bool, Any]:
    """Return whether the payload has that path of keys, and what is there."""
    for key in path.split("."):
        if not isinstance(payload, dict) or key not in payload:
            return False, None
        payload = payload[key]
    return True, payload


def _pick_records(payload: Any, endpoint: Endpoint, where: str) -> list[Any]:
    path = endpoint.records_field
    found, picked = _find(payload, path) if path else (True, payload)
    if found and (picked is None or type(picked) is list):
        return picked or []
    members = payload if isinstance(payload, dict) else {}
    lists = [key for key, value in members.items() if isinstance(value, list)]
    hint = f" (it has lists in: {', '.join(lists[:5])})" if lists else ""
    problem = f"has no list of records in '{path}'" if path else "is no list of records"
    message = endpoint.hide_secrets(f"{where} {problem}{hint}; set the endpoint's records_field.")
    raise RefusedError(message)
