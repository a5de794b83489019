"""What servers say: facts of files, lists of them, and ranges of their bytes, through fsspec; tried again where the fault may pass.

Each answer says itself where in which version of the file its bytes lie, and that alone is believed: a server that ignores ranges, or
whose file has changed, cannot put bytes in a wrong place.
"""

import asyncio
import logging
import os
import pkgutil
import posixpath
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
import fsspec.asyn

from pathssl.slides.remote.address import SCHEMES, joined
from pathssl.slides.remote.answers import http, http_facts, listed_facts, other, refuse, s3, stated_facts
from pathssl.slides.remote.facts import Changed, Cut, Facts, Full, Unfit

log = logging.getLogger(__name__)

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # between attempts
_CONNECT_S, _SILENCE_S = 10.0, 30.0  # that are waited for a connection, and for the next bytes of an answer
_LEAST_BYTES_PER_S = 20_000  # an answer that trickles more slowly is asked for again
_AT_ONCE = 16  # requests of a process
_LOUD_S = 4.0  # waits from here on are logged
T = TypeVar("T")


class Target(Protocol):
    """Where bytes of a file go."""

    url: str
    facts: Facts

    def missing(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]: ...

    def writer(self, position: int) -> Callable[[bytes], None]: ...


class Store:
    """The servers of one scheme, as this process talks to them."""

    def __init__(self, scheme: str):
        self.scheme = SCHEMES[scheme]
        self._fs = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **_options(scheme))
        self._answer = {"http": http, "https": http, "s3": s3}.get(scheme, other)
        self._denied, self._errors = (
            tuple(pkgutil.resolve_name(name) for name in names) for names in (self.scheme.denied, self.scheme.errors)
        )
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def facts(self, urls: Sequence[str]) -> list[Facts | OSError]:
        """Of each file, or why there are none."""

        async def all_of_them() -> list[Facts | OSError]:
            return await asyncio.gather(*(self._facts(url) for url in urls))

        return fsspec.asyn.sync(self._fs.loop, all_of_them)

    async def _facts(self, url: str) -> Facts | OSError:
        try:
            return await self._patiently(url, lambda: self._ask(url))
        except OSError as error:
            return error

    async def _ask(self, url: str) -> Facts:
        async with self._turn:
            if self._answer is http:
                return await http_facts(self._fs, url)
            return stated_facts(url, await self._fs._info(url))

    def find(self, url: str, deep: bool = True) -> dict[str, Facts | None]:
        """{name below a folder: facts, where a list tells them} of all its files, and of its subfolders' where `deep`.

        OSError where a part of them cannot be had now: fsspec's own search over HTTP would leave that out.
        """
        return fsspec.asyn.sync(self._fs.loop, lambda: self._found(url, deep))

    async def _found(self, url: str, deep: bool) -> dict[str, Facts | None]:
        if self._answer is http:
            return dict.fromkeys(await self._links(url, deep))

        async def listed() -> list[dict[str, Any]]:
            if deep:
                return list((await self._fs._find(url, detail=True)).values())
            return await self._fs._ls(url, detail=True)

        folder = f"{self._fs._strip_protocol(url)}/"
        files = {info["name"]: info for info in await self._patiently(url, listed) if info.get("type") == "file"}
        names = {name.removeprefix(folder): info for name, info in files.items() if name.startswith(folder)}
        return {name: listed_facts(info) for name, info in names.items() if ".." not in name.split("/")}

    async def _links(self, url: str, deep: bool) -> list[str]:
        """The names of the files below a folder that its pages of links lead to."""
        names, folders = set(), [""]
        while folders:
            pages = await asyncio.gather(*(self._page(url, folder) for folder in folders))
            found = set().union(*pages) - names
            names |= found
            folders = sorted(name for name in found if deep and name.endswith("/"))
        return sorted(name for name in names if not name.endswith("/"))

    async def _page(self, url: str, folder: str) -> set[str]:
        """The names below `url` that the page of a folder in it has links to; those of folders end with a slash."""
        page = joined(url, folder).rstrip("/")

        async def links() -> list[str]:
            async with self._turn:
                try:
                    return await self._fs._ls(page, detail=False)
                except self._errors as error:  # one with a status is an answer
                    refuse(getattr(error, "status", 200), page)
                    raise

        try:
            found = await self._patiently(page, links)
        except FileNotFoundError:
            if not folder:
                raise
            return set()  # the link leads nowhere
        start, names = f"{unquote(page).partition('://')[2]}/", set()
        for link in found:
            path = unquote(link).partition("://")[2]
            name = posixpath.normpath(path.removeprefix(start))
            if (
                path.startswith(start)
                and not name.startswith(("..", "/"))
                and name != "."
                and not {"?", "#"} & set(link)
            ):
                names.add(folder + name + "/" * path.endswith("/"))
        return names

    def beginnings(self, urls: Sequence[str], count: int) -> list[bytes | None]:
        """Of each file its first bytes, `count` or all; None where it is not there. OSError where one cannot be had just now."""

        async def beginning(url: str) -> bytes | None:
            try:
                return await self._patiently(url, partial(self._beginning, url, count))
            except FileNotFoundError:
                return None

        async def all_of_them() -> list[bytes | None]:
            return await asyncio.gather(*map(beginning, urls))

        return fsspec.asyn.sync(self._fs.loop, all_of_them)

    async def _beginning(self, url: str, count: int) -> bytes:
        if (facts := await self._ask(url)).size == 0:  # no range lies in it
            return b""
        async with self._turn, asyncio.timeout(_SILENCE_S), self._answer(self._fs, url, 0, count) as answer:
            data = b""
            async for chunk in answer.chunks:
                data += chunk
                if len(data) >= count:
                    break
            if answer.position != 0 or len(data) < min(count, facts.size):
                raise Cut(f"an answer ended at byte {answer.position + len(data)}")
            return data[:count]

    def whole(self, url: str) -> bytes:
        """The content of a small file."""

        async def content() -> bytes:
            async with self._turn:
                return await self._fs._cat_file(url)

        return fsspec.asyn.sync(self._fs.loop, lambda: self._patiently(url, content))

    def fetch(self, wanted: Sequence[tuple[Target, Sequence[tuple[int, int]]]]) -> None:
        """Brings the ranges of bytes of each target, several at a time. OSError where some cannot be had now."""

        async def all_of_them() -> None:
            tasks = [
                asyncio.ensure_future(self._range(target, start, stop))
                for target, ranges in wanted
                for start, stop in ranges
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        fsspec.asyn.sync(self._fs.loop, all_of_them)

    async def _range(self, target: Target, start: int, stop: int) -> None:
        async def attempt() -> None:
            for first, last in target.missing([(start, stop)]):  # not what an earlier attempt brought
                position = await self._part(target, first, last)
                if target.missing([(first, last)]):
                    raise Cut(f"an answer ended at byte {position} of {last}")

        await self._patiently(target.url, attempt)

    async def _part(self, target: Target, first: int, last: int) -> int:
        """Asks once for a range of bytes; where the answer ended."""
        async with (
            self._turn,
            asyncio.timeout(_SILENCE_S + (last - first) / _LEAST_BYTES_PER_S) as limit,
            self._answer(self._fs, target.url, first, last) as answer,
        ):
            if answer.facts != target.facts:
                raise Changed(f"{target.url} has changed: {_was(target.facts)}, and now {_was(answer.facts)}")
            if answer.position == 0 < first:  # all of the file is on its way
                limit.reschedule(asyncio.get_running_loop().time() + _SILENCE_S + last / _LEAST_BYTES_PER_S)
            write, position = target.writer(answer.position), answer.position
            async for chunk in answer.chunks:
                write(chunk)
                position += len(chunk)
                if position >= last:
                    break
            return position

    async def _patiently(self, url: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns, after as many as WAITS_S allows; OSError with a sentence."""
        for wait_s in (*WAITS_S, None):
            try:
                return await attempt()
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{url} is not there") from error
            except (Changed, Full, Unfit):
                raise
            except (PermissionError, *self._denied) as error:
                raise PermissionError(f"{url} may not be read: {_words(error)}. {self.scheme.credentials}") from error
            except (OSError, TimeoutError, *self._errors) as error:
                if wait_s is None:
                    raise OSError(
                        f"{url} cannot be read after {len(WAITS_S)} more attempts: {_words(error)}"
                    ) from error
                log.log(
                    logging.WARNING if wait_s >= _LOUD_S else logging.DEBUG,
                    "%s: %s; trying again in %g s", url, _words(error), wait_s,
                )  # fmt: skip
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")


def store_of(url: str) -> Store:
    """This process's store for a URL's scheme."""
    return _store(urlsplit(url).scheme, os.getpid())


@cache
def _store(scheme: str, _process: int) -> Store:  # connections do not survive a fork
    return Store(scheme)


def _options(scheme: str) -> dict[str, Any]:
    if SCHEMES[scheme].package == "aiohttp":
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        return {
            "client_kwargs": {"timeout": limits, "trust_env": True, "auto_decompress": False}
        }  # trust_env: netrc, proxies
    if SCHEMES[scheme].package == "s3fs":
        retries = {"total_max_attempts": 1}
        return {"config_kwargs": {"connect_timeout": _CONNECT_S, "read_timeout": _SILENCE_S, "retries": retries}}
    return {}


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or (
        "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    )


def _was(facts: Facts) -> str:
    return f"{facts.size} bytes, version {facts.version}"
