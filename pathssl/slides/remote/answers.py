"""One answer of a server: bytes of a file, and what it says itself about where in which version of the file they lie."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pathssl.slides.remote.facts import Facts, Unfit

_CHUNK = 1024 * 1024
_VERSIONS = ("etag", "generation", "last-modified", "lastmodified", "last_modified", "updated", "mtime")


class Answer(NamedTuple):
    """Bytes of a file from `position` on."""

    facts: Facts
    position: int
    chunks: AsyncIterator[bytes]


def _version(said: Mapping[str, Any]) -> str:
    known = {name.lower(): value for name, value in said.items()}
    return next((str(known[name]).strip('"') for name in _VERSIONS if known.get(name)), "")


def listed_facts(info: Mapping[str, Any]) -> Facts | None:
    """Of a file, from what a list or headers say of it; None where that is not enough."""
    version = _version(info)
    return Facts(int(info["size"]), version) if version and info.get("size") is not None else None


def stated_facts(url: str, said: Mapping[str, Any]) -> Facts:
    """Of a file, from its headers; OSError where these are not enough."""
    if said.get("type") == "directory":
        raise FileNotFoundError(url)
    if (facts := listed_facts(said)) is None:
        lacking = "no length" if said.get("size") is None else "neither ETag nor Last-Modified"
        raise Unfit(
            f"{url}: its server tells {lacking}, so that a change could not be noticed: copy the slides to a disk"
        )
    return facts


def _place(content_range: str | None, length: int | None) -> tuple[int, int]:
    """(where the bytes of an answer begin, length of the file), from its headers."""
    if content_range is None:
        if length is None:
            raise OSError("the answer tells no length")
        return 0, length
    if not (match := re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range.strip())):
        raise OSError(f"the answer has a Content-Range that says nothing: {content_range}")
    return int(match[1]), int(match[3])


def refuse(status: int, url: str) -> None:
    """OSError for what is no answer with content."""
    if status in (404, 410):
        raise FileNotFoundError(url)
    if status in (401, 403, 407):
        raise PermissionError(f"the server answers {status}")
    if status not in (200, 206):
        raise OSError(f"the server answers {status}")


async def http_facts(fs: Any, url: str) -> Facts:
    """Of a file, by HEAD, or by the first byte where a server does not answer that, or not with all facts."""
    session = await fs.set_session()
    asked = session.head(fs.encode_url(url), allow_redirects=True, headers={"Accept-Encoding": "identity"})
    async with asked as response:
        if response.status not in (403, 405, 501):  # some servers answer GET alone
            refuse(response.status, url)
            if facts := listed_facts({**response.headers, "size": response.headers.get("Content-Length")}):
                return facts
    async with http(fs, url, 0, 1) as answer:
        return answer.facts


@asynccontextmanager
async def http(fs: Any, url: str, start: int, stop: int) -> AsyncIterator[Answer]:
    """The bytes start ... stop - 1 or more. fsspec's own reading would take all of a file for the range that was asked for."""
    session = await fs.set_session()
    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    async with session.get(fs.encode_url(url), headers=headers) as response:
        refuse(response.status, url)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError("the server packs the bytes, though it was asked not to")
        said = response.headers.get("Content-Range") if response.status == 206 else None
        if response.status == 206 and said is None:
            raise OSError("the answer does not say which bytes it has")
        position, size = _place(said, response.content_length)
        facts = stated_facts(url, {**response.headers, "size": size})
        yield Answer(facts, position, response.content.iter_chunked(_CHUNK))


@asynccontextmanager
async def s3(fs: Any, url: str, start: int, stop: int) -> AsyncIterator[Answer]:
    """The same from S3."""
    bucket, key, _ = fs.split_path(url)
    said = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
    body = said["Body"]

    async def chunks() -> AsyncIterator[bytes]:
        while chunk := await body.read(_CHUNK):
            yield chunk

    try:
        position, size = _place(said.get("ContentRange"), said["ContentLength"])
        yield Answer(stated_facts(url, {"etag": said["ETag"], "size": size}), position, chunks())
    finally:
        body.close()


@asynccontextmanager
async def other(fs: Any, url: str, start: int, stop: int) -> AsyncIterator[Answer]:
    """Where fsspec gives bytes alone, the file's facts are asked for after them: bytes of another version then stand out."""
    data = await fs._cat_file(url, start=start, end=stop)

    async def chunks() -> AsyncIterator[bytes]:
        yield data[: stop - start]

    yield Answer(stated_facts(url, await fs._info(url)), start, chunks())
