"""Pages from the templates beside this file."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_HERE = Path(__file__).parent


_HEADING = re.compile(r'<h2 id="([^"]+)"[^>]*>(.*?)</h2>', re.DOTALL)


def render(template: str, **values: Any) -> str:
    """The page that this template makes of the values: texts are escaped, and a value that is missing is an error.

    `css` is page.css, `script` page.js, and `script_hash` what a Content-Security-Policy calls it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["headings"] = _headings
    css, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    script_hash = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
    template = environment.get_template(template)
    return template.render(css=Markup(css), script=Markup(script), script_hash=script_hash, **values)


def _headings(page: Markup) -> list[tuple[str, Markup]]:
    """(id, text) of each second-level heading."""
    return [(id_, Markup(text)) for id_, text in _HEADING.findall(page)]
