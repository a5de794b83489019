"""URLs of slides: the schemes there are, what each needs, and what a URL must not hold."""

import importlib.util
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from pathssl.errors import UserError


@dataclass(frozen=True)
class Scheme:
    """package: what fsspec needs for it; extra: pathssl's optional dependency with it, None where it is always there.

    credentials: where they come from, as a sentence; denied, errors: names of exceptions of the package that are no OSErrors.
    """

    package: str
    extra: str | None
    credentials: str
    denied: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    lists: bool = True


_HTTP = Scheme(
    "aiohttp",
    None,
    "Where the server wants a name and a password, they stand in ~/.netrc, or in the file that NETRC names.",
    errors=("aiohttp:ClientError",),
    lists=False,
)
_S3 = Scheme(
    "s3fs",
    "s3",
    "Credentials come from the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE; "
    "FSSPEC_S3_ANON=true reads a public bucket without any; AWS_ENDPOINT_URL names a server that is not Amazon's.",
    denied=(
        "botocore.exceptions:NoCredentialsError",
        "botocore.exceptions:PartialCredentialsError",
        "botocore.exceptions:ProfileNotFound",
    ),
    errors=("botocore.exceptions:BotoCoreError", "botocore.exceptions:ClientError", "aiohttp:ClientError"),
)
_GS = Scheme(
    "gcsfs",
    "gs",
    "Credentials come from the environment: GOOGLE_APPLICATION_CREDENTIALS names a key file, or `gcloud auth application-default login` "
    "keeps some; FSSPEC_GS_TOKEN=anon reads a public bucket without any.",
    denied=("google.auth.exceptions:DefaultCredentialsError", "google.auth.exceptions:RefreshError"),
    errors=("google.auth.exceptions:GoogleAuthError", "gcsfs.retry:HttpError", "aiohttp:ClientError"),
)
_AZ = Scheme(
    "adlfs",
    "az",
    "Credentials come from the environment: AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or "
    "AZURE_STORAGE_CONNECTION_STRING; AZURE_STORAGE_ANON=true reads a public container without any.",
    denied=("azure.core.exceptions:ClientAuthenticationError",),
    errors=("azure.core.exceptions:AzureError", "aiohttp:ClientError"),
)
SCHEMES = {"http": _HTTP, "https": _HTTP, "s3": _S3, "gs": _GS, "az": _AZ}


def is_url(text: object) -> bool:
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def scheme_of(url: str) -> Scheme:
    return SCHEMES[urlsplit(url).scheme]


def joined(folder: str, name: str) -> str:
    """The URL of the file that is called `name`, its folders before it, below the URL of a folder. HTTP's URLs hold names quoted."""
    return f"{folder}/{quote(name) if urlsplit(folder).scheme in ('http', 'https') else name}"


def name_below(folder: str, url: str) -> str:
    """What the file at a URL is called below that of a folder: `joined` the other way round."""
    name = url.removeprefix(f"{folder}/")
    return unquote(name) if urlsplit(folder).scheme in ("http", "https") else name


def checked(url: str) -> str:
    """The URL without a slash at its end; UserError where it cannot be used, or tells a secret."""
    parts = urlsplit(url)
    safe = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}"
    if (scheme := SCHEMES.get(parts.scheme)) is None:
        raise UserError(
            f"{safe.replace('...@', '')}: slides by URL are read from {', '.join(SCHEMES)}, not from {parts.scheme}."
        )
    if "@" in parts.netloc:
        raise UserError(
            f"{safe} has a name or a password in it, which would be written down with every run. {scheme.credentials}"
        )
    if parts.query or parts.fragment:
        raise UserError(
            f"{safe.replace('...@', '')} goes on with ? or #: signed URLs hold a secret, and expire, so that they cannot be used. "
            f"{scheme.credentials}"
        )
    if not parts.netloc:
        raise UserError(f"{url} names no server or bucket: as in {parts.scheme}://NAME/slides.")
    if importlib.util.find_spec(scheme.package) is None:
        raise UserError(
            f"{url}: {parts.scheme}:// needs {scheme.package}: pip install -c constraints.txt '.[{scheme.extra or scheme.package}]'."
        )
    return url.rstrip("/")
