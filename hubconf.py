"""pathssl's encoders through torch.hub: the architectures of conf/model, with weights from an export, a file or a URL.

    torch.hub.load("OWNER/REPOSITORY", "vits16", weights="https://.../teacher.safetensors")
    torch.hub.load("OWNER/REPOSITORY", "export", "my-vit")            # what `python -m pathssl export` wrote

Each maps (B, 3, H, W) normalised images to (B, D) features, and comes in eval mode.
"""

import hashlib as _hashlib
import json as _json
import os as _os
from pathlib import Path as _Path
from urllib.parse import urlsplit as _urlsplit

dependencies = ["torch", "timm", "safetensors", "yaml"]  # what torch.hub looks for before it calls an entry point

_CONF = _Path(__file__).resolve().parent / "conf"


def vit_nano(weights: str | None = None):
    """The ViT of 0.8 M parameters for demonstrations. weights: a folder, file or URL, as for all of them; None: random."""
    return _encoder("vit_nano", weights)


def vits16(weights: str | None = None):
    """ViT-S/16. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vits16", weights)


def vits8(weights: str | None = None):
    """ViT-S/8. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vits8", weights)


def vitb16(weights: str | None = None):
    """ViT-B/16. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vitb16", weights)


def vitb8(weights: str | None = None):
    """ViT-B/8. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vitb8", weights)


def vitl16(weights: str | None = None):
    """ViT-L/16. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vitl16", weights)


def vitl14(weights: str | None = None):
    """ViT-L/14 with registers. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vitl14", weights)


def vitg14(weights: str | None = None):
    """ViT-g/14 with registers. weights: an export's folder, a .safetensors or .pth file or the URL of one; None: random."""
    return _encoder("vitg14", weights)


def export(weights: str):
    """The encoder of any folder that `python -m pathssl export` wrote, whatever its architecture. weights: the folder."""
    import timm

    _exported(_Path(weights))
    return timm.create_model(f"local-dir:{weights}", pretrained=True).eval()


def _encoder(option: str, weights: str | None):
    """The encoder of conf/model/<option>.yaml with these weights, loaded strictly. What does not fit is a UserError."""
    from pathssl.errors import UserError
    from pathssl.models.encoder import create_encoder

    name, args = _architecture(option)
    if weights is None:
        return create_encoder(name, args, 0.0).eval()
    weights = str(weights)
    if _Path(weights).is_dir():
        theirs = _exported(_Path(weights))
        # Images of any size are taken as they come; the others are the same in every export.
        free = ("img_size", "dynamic_img_size", "num_classes", "global_pool")
        own, given = ({key: x for key, x in a.items() if key not in free} for a in (args, theirs["model_args"]))
        if (theirs["architecture"], given) != (name, own):
            raise UserError(
                f"{weights} is a {theirs['architecture']} with {given}, and {option} a {name} with {own}: take 'export'."
            )
        return export(weights)
    return _loaded(option, name, args, _file(weights), weights)


def _loaded(option: str, name: str, args: dict, path: _Path, weights: str):
    """The encoder with all tensors of the file, at the image size that its position embeddings were made for."""
    from pathssl.errors import UserError
    from pathssl.models.encoder import create_encoder
    from pathssl.models.weights import load_weights

    encoder = create_encoder(name, args, 0.0)
    loaded = load_weights(encoder, path, strict=False)
    if loaded.gaps or set(loaded.resampled) - {"pos_embed"}:
        raise UserError(f"{weights} does not fit {option}, timm's {name} with {args}. {loaded}")
    if "pos_embed" not in loaded.resampled:
        return encoder.eval()
    # Resampled here, and again for each image, they would be blurred.
    rows = int(loaded.resampled["pos_embed"].split(" x ")[0])
    return _loaded(option, name, {**args, "img_size": rows * encoder.patch_embed.patch_size[0]}, path, weights)


def _architecture(option: str) -> tuple[str, dict]:
    """timm's name and arguments in conf/model/<option>.yaml, for images of the resolution that conf/config.yaml begins with."""
    import yaml

    defaults = yaml.safe_load((_CONF / "config.yaml").read_text())["defaults"]
    (resolution,) = (line["resolution"] for line in defaults if isinstance(line, dict) and "resolution" in line)
    sizes = yaml.safe_load((_CONF / "resolution" / f"{resolution}.yaml").read_text())
    model = yaml.safe_load((_CONF / "model" / f"{option}.yaml").read_text())
    known = {f"${{resolution.{key}}}": value for key, value in sizes.items()}
    return model["name"], {key: known.get(value, value) for key, value in model["args"].items()}


def _exported(folder: _Path) -> dict:
    """The config.json of an export."""
    from pathssl.errors import UserError

    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is no export: it has no config.json. `python -m pathssl export RUN --to DIR` writes one."
        )
    return _json.loads((folder / "config.json").read_bytes())


def _file(weights: str) -> _Path:
    """The file of the weights. That of a URL is fetched once, into torch.hub's cache, and kept there if it can be read."""
    if _urlsplit(weights).scheme not in ("http", "https", "file"):
        return _Path(weights)
    from torch.hub import download_url_to_file, get_dir

    from pathssl.errors import UserError
    from pathssl.models.weights_file import read_tensors

    # Weights of many models are called model.safetensors: the URL's hash tells them apart.
    name = f"{_hashlib.sha256(weights.encode()).hexdigest()[:16]}-{_Path(_urlsplit(weights).path).name}"
    path = _Path(get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched = path.with_name(f"{_os.getpid()}-{name}")
    try:
        download_url_to_file(weights, str(fetched))
        read_tensors(fetched)  # a transfer that was cut tells nobody
        _os.replace(fetched, path)
    except OSError as error:
        raise UserError(f"{weights} cannot be fetched: {error}") from error
    finally:
        fetched.unlink(missing_ok=True)
    return path
