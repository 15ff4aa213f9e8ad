"""Neural super-resolution of pictures and video frames in numpy arrays.

>>> import numpy, srfilter
>>> image = numpy.zeros((180, 320, 3), numpy.uint8)
>>> srfilter.Upscaler("espcn", scale=2).upscale(image).shape
(360, 640, 3)
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from . import _native
from ._native import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    _Sample = TypeVar("_Sample", np.uint8, np.uint16, np.float32)

__all__ = ["Model", "ModelInfo", "Upscaler", "__version__", "models", "open", "plugin_path"]


class ModelInfo(NamedTuple):
    """A row of the table of models."""

    name: str
    summary: str
    built_in: bool
    """Whether the model runs without a weights file."""


class Model:
    """A network with its weights, from `open`."""

    def __init__(self, native: _native.Model) -> None:
        self._native = native

    @property
    def name(self) -> str:
        """The name of its kind in `models()`, or of its architecture."""
        return self._native.name

    @property
    def origin(self) -> str:
        """The weights file, or `built-in`."""
        return self._native.origin

    @property
    def channels(self) -> str:
        """The planes that the network works on: `luma` or `rgb`."""
        return self._native.channels

    @property
    def scales(self) -> list[Fraction] | None:
        """The scales that there are weights for; `None`: any."""
        scales = self._native.scales
        return None if scales is None else [Fraction(*scale) for scale in scales]

    def __repr__(self) -> str:
        return f"<srfilter.Model {self.name} ({self.origin})>"


class Upscaler:
    """Enlarges images by a model.

    What a size of image needs is prepared at the first one and kept for the next ones of that
    size. Threads may share an upscaler; while one computes, others run Python.

    model: a name of `models()`, or what `open()` returns.
    scale: the factor, up to 16: 2, 1.5, "4/3", Fraction(4, 3).
    size: width and height of the result, to which it is resampled where `scale` leads to another
        one.
    device: "auto" (a GPU where there is one and this build supports it), "cpu", "cuda", "cuda:1".
    precision: "auto", "f32", "int8", and on a GPU "tf32", "f16", "bf16".
    threads: of the CPU; 0: one for each core.
    tile_size: in samples of the network's input; 0: automatic. Does not change the result.
    memory_limit: bytes for networks that average over the image; 0: half of what is free.
    tile_overlap: in samples, for networks that see the whole image (DRCT), to run them in tiles:
        an approximation. 0: no tiles.
    damage: of pictures from encoded video, from 0 (clean) to 1, for `espcn` and `espcn-hq`.

    Raises ValueError for unknown names and values, RuntimeError for a device that cannot be used.
    """

    def __init__(
        self,
        model: str | Model = "hypersrcnn",
        scale: float | str | Fraction = 2,
        *,
        size: tuple[int, int] | None = None,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        tile_size: int = 0,
        memory_limit: int = 0,
        tile_overlap: int = 0,
        damage: float | None = None,
    ) -> None:
        self._model = model if isinstance(model, Model) else Model(_native.builtin(model))
        self._native = _native.Upscaler(
            self._model._native,
            str(scale),
            size=size,
            device=device,
            precision=precision,
            threads=threads,
            tile_size=tile_size,
            memory_limit=memory_limit,
            tile_overlap=tile_overlap,
            damage=damage,
        )

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def scale(self) -> Fraction:
        """The factor of width and height."""
        return Fraction(*self._native.scale)

    def upscale(self, image: npt.NDArray[_Sample]) -> npt.NDArray[_Sample]:
        """The larger image, of the same type and number of dimensions.

        image: (height, width), or (height, width, channels) with 1 (grey), 3 (R, G, B) or 4
            channels (and alpha, not premultiplied); uint8 and uint16 of full range, float32 from
            0 to 1, which is computed in 16 bits and clamped. Pass `image[..., ::-1]` for B, G, R.

        Raises ValueError for other shapes, for values far outside of 0 to 1 and for images that
        are too large for the memory, TypeError for other types.
        """
        return self._native.upscale(image)

    @overload
    def upscale_batch(self, images: npt.NDArray[_Sample]) -> npt.NDArray[_Sample]: ...
    @overload
    def upscale_batch(self, images: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]: ...
    def upscale_batch(self, images: Any) -> Any:
        """The larger images of an array (frames, height, width) or (frames, height, width,
        channels), as an array; those of a list, which may differ in size and type, as a list.

        Raises as `upscale`.
        """
        if hasattr(images, "dtype"):
            return self._native.upscale_frames(images)
        return [self.upscale(image) for image in images]

    def __repr__(self) -> str:
        return f"<srfilter.Upscaler {self._model.name} ({self._model.origin}) x{self.scale}>"


def open(path: str | os.PathLike[str]) -> Model:
    """The model in a weights file: safetensors, PyTorch (.pth), ONNX, ncnn (.param).

    Raises OSError for a file that cannot be read, ValueError for one that holds no known network.
    """
    return Model(_native.open(path))


def models() -> list[ModelInfo]:
    """The models by name."""
    return [ModelInfo(*row) for row in _native.models()]


def plugin_path() -> str:
    """The file of the GStreamer plugin, where one is installed, for `gi`:

        Gst.Registry.get().scan_path(os.path.dirname(srfilter.plugin_path()))

    The plugin comes by the package gstreamer1.0-srfilter, not with this module, which does
    without GStreamer. Raises FileNotFoundError if it is in none of GStreamer's folders.
    """
    return _native.plugin_path()
