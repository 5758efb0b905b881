"""Figures: one style, pictures in a row, and interactive figures for JupyterLab and for a page without a kernel.

Still figures are plain matplotlib; their alt text stands in the cell's header (`mystnb={"image": {"alt": "..."}}`).
Interactive ones carry theirs with them. Nothing here loads a script from outside: the book ships one plotly.js for
all its pages, and the slider is a few lines of plain JavaScript.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from string import Template

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from cycler import cycler
from IPython.display import HTML, display
from jaxtyping import UInt8
from PIL import Image
from plotly.io.base_renderers import MimetypeRenderer

# Okabe and Ito (2008): eight colours that stay apart under every common form of colour blindness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":")  # a second cue beside colour
DASHES = ("solid", "dash", "dashdot", "dot")  # the same for plotly
SEQUENTIAL = "cividis"  # colour map for magnitudes: even lightness, safe for colour blindness
DIVERGING = "PuOr"  # colour map for signed values


def setup() -> None:
    """Use the book's look, and a plotly renderer for JupyterLab and for the built page. Call once a notebook."""
    lines = cycler(color=COLORS[:4]) + cycler(linestyle=LINE_STYLES)
    plt.rcParams.update(
        {
            "axes.prop_cycle": lines,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (6.4, 3.6),
            "font.size": 10,
            "grid.alpha": 0.3,
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
        }
    )
    pio.templates["sa0book"] = go.layout.Template(
        layout=dict(colorway=COLORS, margin=dict(l=55, r=15, t=35, b=45), font=dict(size=13), height=380)
    )
    pio.templates.default = "plotly_white+sa0book"
    pio.renderers["sa0book"] = BookRenderer()
    pio.renderers.default = "plotly_mimetype+sa0book"


def to_uint8(image) -> UInt8[np.ndarray, "H W 3"]:
    """A picture ready to show: from `[H, W, 3]` or `[H, W]`, float in [0, 1] (clipped) or uint8, tensor or array.

    Raises ValueError for another shape (a network's `[3, H, W]` among them) or values that are not numbers.
    """
    image = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"a picture is [H, W, 3] or [H, W], not {list(image.shape)}")
    if image.dtype == np.uint8:
        return image
    if not np.isfinite(image).all():
        raise ValueError("a picture holds NaN or infinite values")
    return (np.clip(image, 0.0, 1.0) * 255).round().astype(np.uint8)


def show_images(images: Sequence, captions: Sequence[str], columns: int = 4, width: float = 8.0) -> None:
    """Show pictures in rows with a caption over each, `width` inches in all.

    Alt text comes from the cell's header. Raises ValueError unless every picture has a caption.
    """
    if len(images) != len(captions) or not len(images):
        raise ValueError(f"{len(images)} pictures and {len(captions)} captions: one each is wanted")
    pictures = [to_uint8(image) for image in images]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = width / columns
    tallest = max(p.shape[0] / p.shape[1] for p in pictures)
    _, axes = plt.subplots(rows, columns, figsize=(width, rows * (cell * tallest + 0.3)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, caption in zip(axes.flat, pictures, captions, strict=False):
        ax.imshow(picture)
        ax.set_title(caption, fontsize=9)
    plt.show()


class BookRenderer(MimetypeRenderer):
    """Plotly as an HTML fragment without plotly.js, which the page loads once (book/_ext/offline.py).

    The id is a hash of the figure, so two builds are equal. `interactive` puts the alt text into `layout.meta`.
    """

    def to_mimebundle(self, fig_dict: dict) -> dict[str, str]:
        fig_dict = json.loads(pio.to_json(fig_dict, validate=False))
        alt = ((fig_dict["layout"].get("meta") or {}).get("alt")) or ""
        name = "fig-" + _digest(json.dumps(fig_dict, sort_keys=True))
        control = ""
        if fig_dict.get("frames"):  # a native range input takes the place of plotly's slider, which no keyboard reaches
            control = _frame_control(fig_dict["layout"].pop("sliders")[0], name)
        plot = pio.to_html(
            fig_dict,
            include_plotlyjs=False,
            full_html=False,
            auto_play=False,
            div_id=name,
            validate=False,
            config={"displaylogo": False, "responsive": True},
        )
        alt = html.escape(alt, quote=True)
        return {
            "text/html": f'<div class="sa0-figure"><div role="img" aria-label="{alt}">{plot}</div>'
            f"{control}<noscript><p>{alt}</p></noscript></div>"
        }


def interactive(figure: go.Figure, alt: str) -> None:
    """Show a plotly figure with alt text. Frames need one slider in the layout (`frame_slider` makes it).

    Raises ValueError for an alt text too short to stand for a figure.
    """
    _check_alt(alt)
    if figure.frames and len(figure.layout.sliders) != 1:
        raise ValueError("a figure with frames needs one slider: figure.update_layout(sliders=[frame_slider(...)])")
    figure.update_layout(meta={"alt": alt})
    pio.show(figure)


def frame_slider(names: Sequence[str], label: str) -> dict:
    """The plotly slider that walks through a figure's frames, one step a frame name."""
    at_once = dict(mode="immediate", frame=dict(duration=0, redraw=True), transition=dict(duration=0))
    steps = [dict(method="animate", label=str(name), args=[[str(name)], at_once]) for name in names]
    return dict(steps=steps, currentvalue=dict(prefix=f"{label}: "), pad=dict(t=40))


FRAME_CONTROL = Template(
    '<div class="sa0-control"><label>$label <input type="range" min="0" max="$last" value="$active"'
    ' aria-valuetext="$first"></label><output>$first</output></div>'
    '<script>(() => {const names = $names, plot = document.getElementById("$figure");'
    'const box = plot.closest(".sa0-figure"), input = box.querySelector("input"), out = box.querySelector("output");'
    'input.addEventListener("input", () => {const name = names[input.value];'
    'out.textContent = name; input.setAttribute("aria-valuetext", name);'
    'Plotly.animate(plot, [name], {mode: "immediate", frame: {duration: 0, redraw: true},'
    " transition: {duration: 0}});});})()</script>"
)


def _frame_control(slider: dict, figure: str) -> str:
    """A labelled range input that does what plotly's own `slider` does for the figure of that id."""
    names = [step["label"] for step in slider["steps"]]
    active = slider.get("active", 0)
    return FRAME_CONTROL.substitute(
        figure=figure,
        label=html.escape(slider["currentvalue"]["prefix"].strip().rstrip(":")),
        last=len(names) - 1,
        active=active,
        first=html.escape(names[active], quote=True),
        names=_script_json(names),
    )


IMAGE_SLIDER = Template(
    '<figure class="sa0-slider" id="$id"><img src="$first" alt="$alt ($label)" width="$width" height="$height"'
    ' style="image-rendering: $rendering; max-width: 100%; height: auto">'
    '<div class="sa0-control"><label>$control <input type="range" min="0" max="$last" value="0"'
    ' aria-valuetext="$label"></label><output>$label</output><button type="button">play</button></div>'
    "</figure><script>(() => {const frames = $frames, labels = $labels, alt = $alt_json;"
    'const box = document.getElementById("$id"), [img, input, out, button] ='
    ' ["img", "input", "output", "button"].map((tag) => box.querySelector(tag)); let timer = null;'
    "const show = () => {const i = input.value; img.src = frames[i]; img.alt = `$${alt} ($${labels[i]})`;"
    'out.textContent = labels[i]; input.setAttribute("aria-valuetext", labels[i]);};'
    'const stop = () => {clearInterval(timer); timer = null; button.textContent = "play";};'
    "const step = () => {input.value = (Number(input.value) + 1) % frames.length; show();};"
    'const play = () => {timer = setInterval(step, 100); button.textContent = "pause";};'
    'input.addEventListener("input", () => {stop(); show();});'
    'button.addEventListener("click", () => timer ? stop() : play());'
    'for (const type of ["focusin", "keydown"])'  # JupyterLab would take the keyboard away
    " box.addEventListener(type, (event) => event.stopPropagation());"
    'if (matchMedia("(prefers-reduced-motion: reduce)").matches) button.remove();})()</script>'
)


def image_slider(
    frames: Sequence, labels: Sequence[str], alt: str, control: str = "view", width: int = 384, quality: int = 85
) -> None:
    """Pictures behind a slider (a turntable, a sweep): needs no kernel, obeys the keyboard, never starts by itself.

    `frames` are as in `to_uint8`, all of one size, drawn `width` pixels wide; `labels` say what each shows and `alt`
    what all show; `control` names the slider. They are embedded as WebP of that `quality`: about 10 kB a frame of
    256 x 256. Raises ValueError when counts or sizes differ, or the alt text is too short to stand for a picture.
    """
    _check_alt(alt)
    pictures = [to_uint8(frame) for frame in frames]
    labels = [str(label) for label in labels]
    if len(pictures) != len(labels) or len(pictures) < 2:
        raise ValueError(f"{len(pictures)} frames and {len(labels)} labels: one each, and two or more, are wanted")
    if len({p.shape for p in pictures}) != 1:
        raise ValueError("the frames of a slider must be of one size")
    sources = [_webp(picture, quality) for picture in pictures]
    height, pixels = pictures[0].shape[:2]
    markup = IMAGE_SLIDER.substitute(
        id="slider-" + _digest("".join(sources + labels) + alt + control),
        first=sources[0],
        alt=html.escape(alt, quote=True),
        label=html.escape(labels[0], quote=True),
        width=width,
        height=round(width * height / pixels),
        rendering="pixelated" if pixels * 2 <= width else "auto",
        control=html.escape(control),
        last=len(sources) - 1,
        frames=_script_json(sources),
        labels=_script_json(labels),
        alt_json=_script_json(alt),
    )
    display(HTML(markup))


SCORE_COLUMNS = (("psnr", "PSNR (dB) ↑", 2), ("ssim", "SSIM ↑", 3), ("lpips", "LPIPS ↓", 3))


def score_table(rows: dict[str, dict[str, float]]) -> None:
    """Scores by row name, as `avatar.evaluate` names them: of the full frame, and with `box_` of the face box.

    Raises ValueError if a row lacks a score of the first row, or has none at all.
    """
    names = list(next(iter(rows.values()), {}))
    columns = [
        (prefix + key, area, label, digits)
        for prefix, area in (("", "full frame"), ("box_", "face box"))
        for key, label, digits in SCORE_COLUMNS
        if prefix + key in names
    ]
    for name, scores in rows.items():
        if not columns or (missing := [key for key, *_ in columns if key not in scores]):
            raise ValueError(f"row {name!r} of a score table lacks {missing if columns else 'any known score'}")
    heads = [f"{label}, {area}" for _, area, label, _ in columns]
    cells = [[f"{scores[key]:.{digits}f}" for key, _, _, digits in columns] for scores in rows.values()]
    width = max(map(len, rows))
    lines = [" | ".join([" " * width, *heads])]
    lines += [
        " | ".join([name.ljust(width), *(cell.rjust(len(head)) for cell, head in zip(row, heads, strict=True))])
        for name, row in zip(rows, cells, strict=True)
    ]
    header = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for name, row in zip(rows, cells, strict=True)
    )
    table = f'<table class="sa0-scores"><thead><tr><td></td>{header}</tr></thead><tbody>{body}</tbody></table>'
    display({"text/plain": "\n".join(lines), "text/html": table}, raw=True)


def _webp(picture: UInt8[np.ndarray, "H W 3"], quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _check_alt(alt: str) -> None:
    if len(alt.split()) < 4:
        raise ValueError(f"alt text must say what the figure shows, in a sentence; got {alt!r}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _script_json(value) -> str:
    """JSON that may stand inside a <script>: no closing tag can hide in a string."""
    return json.dumps(value).replace("</", "<\\/")
