"""A cluster on this machine, and clips."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SR = os.environ.get("SR", str(ROOT / "target" / "release" / "sr"))

# Before Ray is imported.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PYTHONPATH"] = str(ROOT / "fleet")
sys.path.insert(0, str(ROOT / "fleet"))


def run(*arguments: object) -> str:
    """Standard output of ``sr``."""
    done = subprocess.run([SR, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw(file: Path, seconds: int, pattern: str = "ball", size: str = "96,height=64") -> Path:
    """A clip with sound, and a keyframe a second."""
    elements = f"""videotestsrc pattern={pattern} num-buffers={25 * seconds}
        ! video/x-raw,format=I420,width={size},framerate=25/1 ! x264enc key-int-max=25 ! h264parse
        ! mux. audiotestsrc num-buffers={50 * seconds} samplesperbuffer=960 ! audio/x-raw,rate=48000
        ! opusenc ! matroskamux name=mux ! filesink location={file}"""
    subprocess.run(["gst-launch-1.0", "-q", *elements.split()], check=True)
    return file


class Driver:
    """``python3 -m srfilter_fleet`` in a process of its own."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        command = [sys.executable, "-m", "srfilter_fleet", "--json", "--sr", SR, "--cores", 1]
        self.process = subprocess.Popen(
            [str(part) for part in [*command, *arguments]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def wait(self) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        out, error = self.process.communicate(timeout=400)
        return self.process.returncode, out, error

    def line(self) -> str:
        """The next line of standard output."""
        return self.process.stdout.readline()

    def finish(self) -> str:
        """Standard output of a run that succeeds."""
        status, out, error = self.wait()
        assert status == 0, error
        return out


@pytest.fixture
def cluster():
    """A cluster whose head has no cores."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 200 << 20, "include_dashboard": False},
    )
    cluster.add = lambda **options: cluster.add_node(
        num_cpus=1, object_store_memory=100 << 20, **options
    )
    yield cluster
    cluster.shutdown()
