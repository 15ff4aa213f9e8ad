from typing import Any
import os

__version__: str

class Model:
    name: str
    origin: str
    channels: str
    scales: list[tuple[int, int]] | None

class Upscaler:
    scale: tuple[int, int]
    def __init__(
        self,
        model: Model,
        scale: str,
        *,
        size: tuple[int, int] | None,
        device: str,
        precision: str,
        threads: int,
        tile_size: int,
        memory_limit: int,
        tile_overlap: int,
        damage: float | None,
    ) -> None: ...
    def upscale(self, image: Any) -> Any: ...
    def upscale_frames(self, images: Any) -> Any: ...

def builtin(name: str) -> Model: ...
def open(path: str | os.PathLike[str]) -> Model: ...
def models() -> list[tuple[str, str, bool]]: ...
def plugin_path() -> str: ...
