"""Figures carry their alt text, need nothing from outside, and are the same in every build."""

import base64
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from sa0lib import viz

ALT = "A rising line from zero to one"


def shown(function, *args, **kwargs) -> dict:
    """The one mime bundle that a call displays."""
    with capture_output() as captured:
        function(*args, **kwargs)
    (output,) = captured.outputs
    return output.data


@pytest.fixture(autouse=True)
def book_style():
    InteractiveShell.instance()  # displays go nowhere without one
    viz.setup()
    yield
    plt.close("all")


def moving_figure():
    frames = [go.Frame(data=[go.Scatter(y=[0, k])], name=str(k)) for k in (1, 2)]
    figure = go.Figure(frames[0].data, frames=frames)
    return figure.update_layout(sliders=[viz.frame_slider(["1", "2"], "slope")])


def test_pictures_come_from_tensors_arrays_floats_and_bytes():
    gradient = np.linspace(0, 1, 256).reshape(16, 16)
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(viz.to_uint8(gradient), expected)
    np.testing.assert_array_equal(viz.to_uint8(torch.from_numpy(expected)), expected)
    np.testing.assert_array_equal(viz.to_uint8(expected * 2.0), np.where(expected > 0, 255, 0))  # clipped


def test_pictures_of_another_shape_or_with_nan_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 8, 8\]"):
        viz.to_uint8(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        viz.to_uint8(np.full((4, 4, 3), np.nan))


def test_pictures_are_laid_out_in_rows_with_their_captions():
    viz.show_images([np.zeros((8, 8))] * 5, list("abcde"), columns=3)
    assert [ax.get_title() for ax in plt.gcf().axes] == ["a", "b", "c", "d", "e", ""]
    with pytest.raises(ValueError, match="one each"):
        viz.show_images([np.zeros((8, 8))], ["a", "b"])


def test_an_interactive_figure_serves_jupyterlab_and_the_static_page():
    data = shown(viz.interactive, go.Figure(go.Scatter(y=[0, 1])), ALT)
    assert set(data) == {"application/vnd.plotly.v1+json", "text/html"}
    assert f'role="img" aria-label="{ALT}"' in data["text/html"]


def test_an_interactive_figure_loads_no_script():
    markup = shown(viz.interactive, go.Figure(go.Scatter(y=[0, 1])), ALT)["text/html"]
    assert "src=" not in markup
    assert len(markup) < 20_000  # plotly.js itself has millions


def test_the_same_figure_has_the_same_markup_and_another_has_another():
    first, again, other = (
        shown(viz.interactive, go.Figure(go.Scatter(y=y)), ALT)["text/html"] for y in ([0, 1], [0, 1], [0, 2])
    )
    assert first == again
    assert first != other


def test_frames_get_a_native_slider_in_the_page_and_plotlys_in_jupyterlab():
    data = shown(viz.interactive, moving_figure(), ALT)
    assert "sliders" in data["application/vnd.plotly.v1+json"]["layout"]
    assert '"sliders"' not in data["text/html"]
    assert re.search(r'slope <input type="range" min="0" max="1" value="0"', data["text/html"])


def test_frames_without_a_slider_are_refused():
    with pytest.raises(ValueError, match="one slider"):
        figure = moving_figure()
        figure.layout.sliders = ()
        viz.interactive(figure, ALT)


@pytest.mark.parametrize("alt", ["", "plot", "fig-1.png"])
def test_a_figure_without_real_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="alt text"):
        viz.interactive(go.Figure(), alt)
    with pytest.raises(ValueError, match="alt text"):
        viz.image_slider([np.zeros((4, 4))] * 2, ["a", "b"], alt)


def test_alt_text_is_escaped():
    markup = shown(viz.interactive, go.Figure(), 'Values "above" 1 & <below> 2')["text/html"]
    assert 'aria-label="Values &quot;above&quot; 1 &amp; &lt;below&gt; 2"' in markup


def test_a_slider_holds_its_pictures():
    frames = [np.full((16, 24, 3), value, dtype=np.uint8) for value in (0, 128, 255)]
    markup = shown(viz.image_slider, frames, ["dark", "grey", "light"], "A card from dark to light")["text/html"]
    sources = json.loads(re.search(r"const frames = (\[.*?\])", markup)[1])
    for source, frame in zip(sources, frames, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        np.testing.assert_allclose(np.asarray(picture.convert("RGB")), frame, atol=2)
    assert '<input type="range" min="0" max="2"' in markup
    assert 'alt="A card from dark to light (dark)"' in markup


@given(st.text())
def test_no_label_can_leave_its_script(label):
    script = viz._script_json([label])
    assert "</" not in script
    assert json.loads(script) == [label]


def test_a_slider_wants_one_label_a_frame_and_one_size():
    alt = "A card from dark to light"
    with pytest.raises(ValueError, match="2 frames and 1 labels"):
        viz.image_slider([np.zeros((4, 4))] * 2, ["a"], alt)
    with pytest.raises(ValueError, match="one size"):
        viz.image_slider([np.zeros((4, 4)), np.zeros((4, 5))], ["a", "b"], alt)


def test_a_score_table_names_its_rows_and_columns():
    scores = {"psnr": 27.123, "ssim": 0.91, "lpips": 0.0456, "box_psnr": 30.0}
    data = shown(viz.score_table, {"start": scores, "refined & done": {**scores, "extra": 1.0}})
    assert (
        '<th scope="row">refined &amp; done</th><td>27.12</td><td>0.910</td><td>0.046</td><td>30.00</td>'
        in data["text/html"]
    )
    assert '<th scope="col">PSNR (dB) ↑, face box</th>' in data["text/html"]
    assert data["text/plain"].splitlines()[1].split(" | ")[0].strip() == "start"


def test_a_score_table_with_a_hole_is_refused():
    with pytest.raises(ValueError, match="'b'.*ssim"):
        viz.score_table({"a": {"psnr": 1.0, "ssim": 1.0}, "b": {"psnr": 1.0}})
    with pytest.raises(ValueError, match="any known score"):
        viz.score_table({"a": {"accuracy": 1.0}})
