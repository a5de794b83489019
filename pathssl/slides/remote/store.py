"""What servers say: facts of files, lists of them, and ranges of their bytes, through fsspec; tried again where the fault may pass.

Each answer says itself where in which version of the file its bytes lie, and that alone is believed: a server that ignores ranges, or
whose file has changed, cannot put bytes in a wrong place.
"""

import asyncio
import logging
import os
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
import fsspec.asyn

from pathssl.slides.remote.address import SCHEMES
from pathssl.slides.remote.answers import http, http_facts, listed_facts, other, s3, stated_facts
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

    def find(self, url: str) -> dict[str, Facts | None]:
        """{URL: facts, where a list tells them} of all files below a folder."""

        async def found() -> dict[str, Any]:
            return await self._fs._find(url, detail=True)

        listed = fsspec.asyn.sync(self._fs.loop, lambda: self._patiently(url, found))
        files = {name: listed_facts(info) for name, info in listed.items() if info["type"] == "file"}
        if self._answer is http:  # these are links of a page
            return {unquote(link): facts for link, facts in files.items()}
        return {f"{urlsplit(url).scheme}://{name}": facts for name, facts in files.items()}

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
