"""Tests of the module, by unittest alone.

SR: the command `sr`, for the test that compares with it.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from fractions import Fraction

import numpy as np
import srfilter

MODELS = pathlib.Path(__file__).parents[2] / "models"


def picture(shape, dtype=np.uint8, seed=1):
    """A picture of waves: smooth, and different in each channel."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    channels = shape[2] if len(shape) == 3 else 1
    waves = [np.sin(rows / (3 + c) + seed) * np.cos(columns / (5 + c)) for c in range(channels)]
    unit = (np.stack(waves, axis=-1).reshape(shape) + 1) / 2
    if dtype == np.float32:
        return unit.astype(np.float32)
    return np.round(unit * np.iinfo(dtype).max).astype(dtype)


def bitmap(pixels):
    """The bytes of an uncompressed BMP file."""
    height, width, _ = pixels.shape
    padded = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)
    padded[:, : 3 * width] = pixels[..., ::-1].reshape(height, -1)
    data = padded.tobytes()
    numbers = [40, width, -height, 1 | 24 << 16, 0, len(data), 2835, 2835, 0, 0]
    head = [len(data) + 54, 0, 54, *numbers]
    return b"BM" + np.array(head, np.int32).tobytes() + data


def pixels(file):
    """The pixels of such a file; of 24 or 32 bits, and either way up."""
    data = file.read_bytes()
    start, (width, height) = np.frombuffer(data, "<u4", 1, 10)[0], np.frombuffer(data, "<i4", 2, 18)
    channels = np.frombuffer(data, "<u2", 1, 28)[0] // 8
    row = (channels * width + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, row * abs(height), start).reshape(abs(height), row)
    image = rows[:, : channels * width].reshape(abs(height), width, channels)[..., 2::-1]
    return image if height < 0 else image[::-1]


class Upscaling(unittest.TestCase):
    def test_shapes_and_types_are_kept(self):
        for model in ("espcn", "srcnn-rgb", "bicubic"):
            upscaler = srfilter.Upscaler(model, scale=2)
            for dtype in (np.uint8, np.uint16, np.float32):
                for shape in ((9, 12), (9, 12, 1), (9, 12, 3), (9, 12, 4)):
                    with self.subTest(model=model, dtype=dtype, shape=shape):
                        larger = upscaler.upscale(picture(shape, dtype))
                        self.assertEqual(larger.dtype, dtype)
                        self.assertEqual(larger.shape, (18, 24, *shape[2:]))

    def test_the_result_is_the_picture(self):
        for dtype, white in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
            for channels in (1, 3, 4):
                image = picture((24, 32, channels), dtype)
                larger = srfilter.Upscaler("espcn").upscale(image).astype(float)
                smaller = larger.reshape(24, 2, 32, 2, channels).mean((1, 3))
                error = np.abs(smaller - image)[4:-4, 4:-4].mean() / white
                self.assertLess(error, 0.02, (dtype, channels))

    def test_types_agree(self):
        upscaler = srfilter.Upscaler("espcn", precision="f32")
        image = picture((20, 30, 3))
        eight = upscaler.upscale(image).astype(float) / 255
        sixteen = upscaler.upscale(image.astype(np.uint16) * 257).astype(float) / 65535
        real = upscaler.upscale((image / np.float32(255)).astype(np.float32)).astype(float)
        self.assertLessEqual(np.abs(eight - sixteen).max(), 0.51 / 255)
        self.assertLessEqual(np.abs(sixteen - real).max(), 1e-6)

    def test_alpha_is_kept_apart(self):
        image = picture((16, 16, 4))
        image[..., 3] = 77
        larger = srfilter.Upscaler("bicubic").upscale(image)
        self.assertTrue((larger[..., 3] == 77).all())

    def test_views_are_read_as_they_look(self):
        upscaler = srfilter.Upscaler("espcn")
        image = picture((40, 60, 3))
        for view in (image[::-1], image[..., ::-1], image[5:25, 7:37], image.transpose(1, 0, 2)):
            self.assertTrue((upscaler.upscale(view) == upscaler.upscale(view.copy())).all())
        fixed = image.copy()
        fixed.flags.writeable = False
        self.assertTrue((upscaler.upscale(fixed) == upscaler.upscale(image)).all())

    def test_batches_are_their_frames(self):
        upscaler = srfilter.Upscaler("espcn", scale=1.5)
        for frames in (
            np.stack([picture((12, 16, 3), seed=s) for s in range(3)]),
            np.stack([picture((12, 16), seed=s) for s in range(3)]),
        ):
            larger = upscaler.upscale_batch(frames)
            self.assertEqual(larger.shape[:3], (3, 18, 24))
            for one, frame in zip(larger, frames, strict=True):
                self.assertTrue((one == upscaler.upscale(frame)).all())
        mixed = upscaler.upscale_batch([picture((4, 6)), picture((8, 4, 3), np.uint16)])
        self.assertEqual([m.shape for m in mixed], [(6, 9), (12, 6, 3)])
        self.assertEqual(upscaler.upscale_batch(np.zeros((0, 8, 8), np.uint8)).shape, (0, 12, 12))

    def test_scales_and_sizes(self):
        for scale, text in ((2, "2"), ("3/2", "3/2"), (1.5, "3/2"), (Fraction(4, 3), "4/3")):
            self.assertEqual(srfilter.Upscaler("hypersrcnn", scale).scale, Fraction(text))
        larger = srfilter.Upscaler("hypersrcnn", 2, size=(33, 17)).upscale(picture((9, 16)))
        self.assertEqual(larger.shape, (17, 33))

    def test_options_do_not_change_the_result(self):
        image = picture((50, 70, 3))
        expected = srfilter.Upscaler("espcn").upscale(image)
        for options in ({"threads": 1}, {"tile_size": 32}, {"device": "cpu"}):
            found = srfilter.Upscaler("espcn", **options).upscale(image)
            self.assertTrue((found == expected).all(), options)

    @unittest.skipUnless("SR" in os.environ, "SR names no command sr")
    def test_same_bytes_as_the_command(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            image = picture((45, 60, 3))
            (folder / "in.bmp").write_bytes(bitmap(image))
            self.assertTrue((pixels(folder / "in.bmp") == image).all())
            for model, scale, damage in (
                ("espcn", "2", None),
                ("espcn", "2", 0.5),
                ("hypersrcnn", "5/3", None),
                ("srcnn-rgb", "4", None),
            ):
                command = [os.environ["SR"], "upscale", folder / "in.bmp", folder / "out.bmp"]
                command += ["--model", model, "--scale", scale, "--force"]
                command += [] if damage is None else ["--damage", str(damage)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                found = srfilter.Upscaler(model, scale, damage=damage).upscale(image)
                self.assertTrue((found == pixels(folder / "out.bmp")).all(), model)

    def test_damage_changes_the_result(self):
        image = picture((45, 60, 3))
        results = [srfilter.Upscaler("espcn", damage=d).upscale(image) for d in (None, 0, 0.5, 1)]
        self.assertTrue((results[0] == results[1]).all())
        self.assertFalse((results[0] == results[2]).all())
        self.assertFalse((results[2] == results[3]).all())


class Threads(unittest.TestCase):
    def test_others_run_meanwhile(self):
        upscaler, turns, done = srfilter.Upscaler("srresnet", 4), 0, threading.Event()

        def work():
            upscaler.upscale(picture((90, 120, 3)))
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not done.is_set():
            time.sleep(0.001)
            turns += 1
        thread.join()
        self.assertGreater(turns, 20)

    def test_threads_share_an_upscaler(self):
        upscaler = srfilter.Upscaler("espcn")
        images = [picture((20 + i % 3, 30, 3), seed=i) for i in range(12)]
        expected = [upscaler.upscale(image) for image in images]
        found = [None] * len(images)

        def work(first):
            for i in range(first, len(images), 3):
                found[i] = upscaler.upscale(images[i])

        threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one, other in zip(found, expected, strict=True):
            self.assertTrue((one == other).all())

    def test_signals_interrupt(self):
        class Alarm(Exception):
            pass

        def raises(*_):
            raise Alarm

        image = picture((600, 800, 3))
        upscaler = srfilter.Upscaler("srresnet", 4)
        before = signal.signal(signal.SIGALRM, raises)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            start = time.monotonic()
            with self.assertRaises(Alarm):
                upscaler.upscale(image)
            self.assertLess(time.monotonic() - start, 10)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        # And goes on after that.
        self.assertEqual(upscaler.upscale(image[:20, :20]).shape, (80, 80, 3))


class Errors(unittest.TestCase):
    def assert_raises(self, error, text, function, *arguments, **keywords):
        with self.assertRaises(error) as raised:
            function(*arguments, **keywords)
        self.assertIn(text, str(raised.exception))

    def test_settings(self):
        make = srfilter.Upscaler
        self.assert_raises(ValueError, "there is no model 'espn'", make, "espn")
        self.assert_raises(ValueError, "srgan has no built-in weights", make, "srgan")
        self.assert_raises(ValueError, "scale", make, "espcn", "two")
        self.assert_raises(ValueError, "scale", make, "espcn", -1)
        self.assert_raises(ValueError, "device", make, "espcn", device="tpu")
        self.assert_raises(ValueError, "precision", make, "espcn", precision="f8")
        self.assert_raises(ValueError, "damage 2 is not from 0", make, "espcn", damage=2)
        self.assert_raises(ValueError, "leave damage out", make, "espcn-fast", damage=0.5)
        self.assert_raises(OverflowError, "", make, "espcn", threads=-1)
        self.assert_raises(TypeError, "", make, 3)

    def test_images(self):
        upscale = srfilter.Upscaler("espcn").upscale
        self.assert_raises(TypeError, "found float64", upscale, np.zeros((4, 4)))
        self.assert_raises(TypeError, "found list", upscale, [[1, 2], [3, 4]])
        self.assert_raises(ValueError, "found [4]", upscale, np.zeros(4, np.uint8))
        self.assert_raises(ValueError, "channels", upscale, np.zeros((4, 4, 2), np.uint8))
        self.assert_raises(ValueError, "0x4", upscale, np.zeros((4, 0), np.uint8))
        white = np.full((4, 4), 255, np.float32)
        self.assert_raises(ValueError, "found 255: divide", upscale, white)
        self.assert_raises(ValueError, "found NaN", upscale, np.full((4, 4), np.nan, np.float32))
        # A stride of 0: one byte of memory.
        huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (40000, 40000), (0, 0))
        self.assert_raises(ValueError, "pixels are not supported", upscale, huge)
        batch = srfilter.Upscaler("espcn").upscale_batch
        self.assert_raises(ValueError, "(frames, height", batch, np.zeros((4, 4), np.uint8))

    def test_files(self):
        self.assert_raises(FileNotFoundError, "/no/such.pth", srfilter.open, "/no/such.pth")
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            self.assert_raises(ValueError, file.name, srfilter.open, file.name)


class Tables(unittest.TestCase):
    def test_models(self):
        models = {model.name: model for model in srfilter.models()}
        self.assertTrue(models["hypersrcnn"].built_in and models["bicubic"].built_in)
        self.assertFalse(models["srgan"].built_in)
        for model in models.values():
            if model.built_in:
                self.assertEqual(srfilter.Upscaler(model.name).model.name, model.name)

    def test_files_of_weights(self):
        model = srfilter.open(MODELS / "srresnet" / "x4.safetensors")
        self.assertEqual((model.channels, model.scales), ("rgb", [4]))
        self.assertIn("x4.safetensors", model.origin)
        larger = srfilter.Upscaler(model, 4).upscale(picture((8, 8, 3)))
        self.assertTrue((larger == srfilter.Upscaler("srresnet", 4).upscale(picture((8, 8, 3)))).all())
        self.assertIsNone(srfilter.open(MODELS / "hypersrcnn" / "weights.safetensors").scales)

    def test_plugin_path(self):
        code = "import srfilter; print(srfilter.plugin_path())"
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "libgstsrfilter.so"
            file.touch()
            environment = {**os.environ, "GST_PLUGIN_PATH": f"/no/such:{folder}"}
            command = [sys.executable, "-c", code]
            found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            self.assertEqual(found.stdout.strip(), str(file))

    def test_documented(self):
        for thing in (srfilter, *(getattr(srfilter, name) for name in srfilter.__all__)):
            self.assertTrue(thing.__doc__, thing)
        for name, thing in vars(srfilter.Upscaler).items():
            if not name.startswith("_"):
                self.assertTrue(thing.__doc__, name)


if __name__ == "__main__":
    unittest.main()
