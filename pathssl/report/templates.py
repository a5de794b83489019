"""Pages from the templates beside this file."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The page that this template makes of the values: texts are escaped, and a value that is missing is an error. `css` is page.css."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    css = Markup((_HERE / "page.css").read_text())
    return environment.get_template(template).render(css=css, **values)
