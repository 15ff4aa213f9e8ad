"""The same frames on any number of workers, and what happens on bad days."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
from conftest import ROOT, SR, Driver, draw, run

SETTINGS = ["--model", "espcn-fast", "--seconds", "1"]


def events(out, kind="segment"):
    lines = [json.loads(line) for line in out.splitlines()]
    return [line for line in lines if line["event"] == kind]


def hashes(out):
    return [line["frames_hash"] for line in sorted(events(out), key=lambda line: line["index"])]


def alone(input, output, settings=SETTINGS):
    """What ``sr video`` makes of a file in one process."""
    return hashes(run("video", input, output, "--json", *settings))


def workers(cluster):
    """The processes of a cluster's workers, once there are some."""
    import psutil

    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.worker_nodes]
    for _ in range(300):
        under = [child for pid in raylets for child in psutil.Process(pid).children()]
        found = []
        for process in under:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray::Worker" in " ".join(process.cmdline()):
                    found.append(process.pid)
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError("no workers")


def test_a_cluster_of_its_own(tmp_path):
    """Loopback only, with a token; the file is that of one process."""
    clip = draw(tmp_path / "in.mkv", 4)
    expected = alone(clip, tmp_path / "alone.mkv")
    driver = Driver(clip, tmp_path / "out.mkv", *SETTINGS)
    listening = set()
    while driver.process.poll() is None:
        found = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout
        for line in found.splitlines():
            if "ray" in line or "gcs_server" in line:
                listening.add(line.split()[3].rsplit(":", 1)[0])
        time.sleep(0.1)
    assert hashes(driver.finish()) == expected
    assert listening and listening <= {"127.0.0.1", "[::ffff:127.0.0.1]"}
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "alone.mkv").read_bytes()
    assert not (tmp_path / "out.mkv.parts").exists()


def test_a_token_is_asked_for(tmp_path, cluster):
    clip = draw(tmp_path / "in.mkv", 2)
    cluster.add()
    arguments = (clip, tmp_path / "out.mkv", "--address", cluster.address, *SETTINGS)
    for token in ["", "0" * 64]:
        status, _, error = Driver(*arguments, RAY_AUTH_TOKEN=token, HOME=str(tmp_path)).wait()
        assert status == 1 and "cannot reach the Ray cluster" in error, error
    Driver(*arguments).finish()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_workers_and_driver_are_killed(tmp_path, cluster, count):
    """Three kills among workers and driver: the file of one process."""
    clip = draw(tmp_path / "in.mkv", 8, size="192,height=108")
    settings = ["--model", "srcnn", "--seconds", "1"]
    expected = alone(clip, tmp_path / "alone.mkv", settings)
    for _ in range(count):
        cluster.add()
    choice = random.Random(count)
    arguments = (clip, tmp_path / "out.mkv", "--address", cluster.address, *settings)
    driver = Driver(*arguments)
    killed = []
    for victim in choice.sample(["worker", "worker", "driver"], 3):
        first = json.loads(driver.line())
        assert first["event"] == "segment"
        if victim == "driver":
            driver.process.kill()
            driver.wait()
            driver = Driver(*arguments)
        else:
            os.kill(choice.choice(workers(cluster)), signal.SIGKILL)
        killed.append(victim)
    status, out, error = driver.wait()
    assert status == 0, error
    assert len(killed) == 3
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "alone.mkv").read_bytes()
    assert set(hashes(out)) <= set(expected)


def test_interrupted_work_goes_on(tmp_path, cluster):
    """Ctrl-C and SIGTERM end it as a message says."""
    clip = draw(tmp_path / "in.mkv", 8, size="192,height=108")
    settings = ["--model", "srcnn", "--seconds", "1"]
    cluster.add()
    arguments = (clip, tmp_path / "out.mkv", "--address", cluster.address, *settings)
    for number in [signal.SIGINT, signal.SIGTERM]:
        driver = Driver(*arguments)
        driver.line()
        driver.process.send_signal(number)
        status, _, error = driver.wait()
        assert status == 130 and "the same command goes on" in error, error
    assert any(line.get("kept") for line in events(Driver(*arguments).finish()))


def test_a_second_run_leaves_the_first_alone(tmp_path):
    from srfilter_fleet.job import Job
    from srfilter_fleet.sr import SrError

    clip = draw(tmp_path / "in.mkv", 2)
    first, second = (Job(SR, clip, tmp_path / "out.mkv", False, False) for _ in range(2))
    first.plan(SETTINGS)
    with pytest.raises(SrError, match="another run is writing to"):
        second.plan(SETTINGS)
    second.close()
    assert first.parts.is_dir()
    first.close()
    assert not first.parts.exists()


def test_a_machine_goes_and_another_comes(tmp_path, cluster):
    clip = draw(tmp_path / "in.mkv", 8, size="192,height=108")
    settings = ["--model", "srcnn", "--seconds", "1"]
    expected = alone(clip, tmp_path / "alone.mkv", settings)
    node = cluster.add()
    driver = Driver(clip, tmp_path / "out.mkv", "--address", cluster.address, *settings)
    first = driver.line()
    cluster.add()
    cluster.remove_node(node)
    assert hashes(first + driver.finish()) == expected
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "alone.mkv").read_bytes()


def test_the_head_is_killed(tmp_path, cluster):
    """An error, and another cluster goes on."""
    clip = draw(tmp_path / "in.mkv", 8, size="192,height=108")
    settings = ["--model", "srcnn", "--seconds", "1"]
    expected = alone(clip, tmp_path / "alone.mkv", settings)
    cluster.add()
    driver = Driver(
        clip, tmp_path / "out.mkv", "--address", cluster.address, *settings,
        RAY_gcs_rpc_server_reconnect_timeout_s="5",
    )  # fmt: skip
    first = driver.line()
    cluster.head_node.kill_gcs_server()
    status, _, error = driver.wait()
    assert status != 0 and not (tmp_path / "out.mkv").exists()
    assert error.strip()
    out = Driver(clip, tmp_path / "out.mkv", *settings).finish()
    assert hashes(out) == expected
    assert any(line.get("kept") for line in events(out)), first
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "alone.mkv").read_bytes()


def test_a_slow_machine_is_not_waited_for(tmp_path, cluster):
    """An idle worker computes what another takes too long for."""
    clip = draw(tmp_path / "in.mkv", 6)
    expected = alone(clip, tmp_path / "alone.mkv")
    wrapper = tmp_path / "sr"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'[ "$SLOW $1 $2" = "1 video segment" ] && sleep 200\nexec {SR} "$@"\n'
    )
    wrapper.chmod(0o755)
    cluster.add(env_vars={"SLOW": "1"})
    cluster.add()
    start = time.monotonic()
    address = ["--address", cluster.address]
    driver = Driver(clip, tmp_path / "out.mkv", *address, "--sr", wrapper, *SETTINGS)
    assert hashes(driver.finish()) == expected
    assert time.monotonic() - start < 100


def test_levels_of_processors(tmp_path, cluster):
    """Machines without AVX-512 and without AVX2 compute the same frames."""
    clip = draw(tmp_path / "in.mkv", 6)
    expected = alone(clip, tmp_path / "alone.mkv")
    for level in ["plain", "avx2"]:
        cluster.add(env_vars={"SRFILTER_CPU": level})
    out = Driver(clip, tmp_path / "out.mkv", "--address", cluster.address, *SETTINGS).finish()
    assert hashes(out) == expected


def test_a_plugin_is_missing(tmp_path, cluster):
    """A machine without decoders gets nothing more; with none that has them it is an error."""
    clip = draw(tmp_path / "in.mkv", 5)
    expected = alone(clip, tmp_path / "alone.mkv")
    without = {
        "GST_PLUGIN_SYSTEM_PATH_1_0": str(tmp_path),
        "GST_REGISTRY_1_0": str(tmp_path / "registry"),
    }
    cluster.add(env_vars=without)
    address = ["--address", cluster.address]
    status, _, error = Driver(clip, tmp_path / "none.mkv", *address, *SETTINGS).wait()
    assert status == 1 and "GStreamer has no" in error, error
    cluster.add()
    out = Driver(clip, tmp_path / "out.mkv", *address, *SETTINGS).finish()
    assert hashes(out) == expected


def test_a_program_is_missing(tmp_path, cluster):
    clip = draw(tmp_path / "in.mkv", 2)
    plain = tmp_path / "sr"
    plain.symlink_to(SR)
    driver = Driver(clip, tmp_path / "out.mkv", "--sr", "/nonexistent/sr", *SETTINGS)
    status, _, error = driver.wait()
    assert status == 1 and "cannot run /nonexistent/sr" in error


def test_a_folder(tmp_path, cluster):
    """All files of a folder, and one that cannot be read."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ["a", "b"]:
        draw(folder / f"{name}.mkv", 2, pattern="snow" if name == "b" else "ball")
        alone(folder / f"{name}.mkv", tmp_path / f"{name}.mkv")
    (folder / "broken.mp4").write_bytes(b"\0" * 1000)
    cluster.add()
    driver = Driver(folder, out, "--address", cluster.address, *SETTINGS)
    status, _, error = driver.wait()
    assert status == 1 and "broken.mp4" in error, error
    assert sorted(file.name for file in out.iterdir()) == ["a.mkv", "b.mkv"]
    for name in ["a.mkv", "b.mkv"]:
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes()


def test_weights_travel(tmp_path, cluster):
    """A weights file that only the driver's machine has."""
    clip, weights = draw(tmp_path / "in.mkv", 2), tmp_path / "mine.safetensors"
    weights.write_bytes((ROOT / "models" / "espcn-fast" / "weights.safetensors").read_bytes())
    settings = ["--weights", weights, "--seconds", "1"]
    expected = alone(clip, tmp_path / "alone.mkv", settings)
    cluster.add()
    address = ["--address", cluster.address]
    out = Driver(clip, tmp_path / "out.mkv", *address, *settings).finish()
    assert hashes(out) == expected


def test_the_disk_is_full(tmp_path, cluster):
    """An error, and the work goes on when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk]
    if subprocess.run(mounted, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk")
    try:
        clip = draw(tmp_path / "in.mkv", 6)
        expected = alone(clip, tmp_path / "alone.mkv")
        cluster.add()
        arguments = (clip, disk / "out.mkv", "--address", cluster.address, *SETTINGS)
        status, _, error = Driver(*arguments).wait()
        assert status == 1 and "No space left" in error, error
        assert not (disk / "out.mkv").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        out = Driver(*arguments).finish()
        assert hashes(out) == expected
        assert any(line.get("kept") for line in events(out))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_the_input_is_replaced_or_cut(tmp_path):
    """What is no more the file of the plan is an error."""
    from srfilter_fleet.job import Job
    from srfilter_fleet.sr import SrError

    clip = draw(tmp_path / "in.mkv", 4)
    job = Job(SR, clip, tmp_path / "out.mkv", False, False)
    job.plan(SETTINGS)
    assert len(job.frames) == 4 and job.cut(3)
    with pytest.raises(SrError, match="another run is writing to"):
        Job(SR, clip, tmp_path / "out.mkv", False, False).plan(SETTINGS)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SrError, match="is not the file of the plan"):
        job.cut(3)
    draw(clip, 4, pattern="snow")
    with pytest.raises(SrError, match="is not the file of the plan"):
        job.cut(2)
    job.close()
    assert not job.parts.exists()


def test_names_of_a_plan_stay_in_the_folder(tmp_path, monkeypatch):
    """Workers write to their own folder, whatever a plan says."""
    from srfilter_fleet.job import Job
    from srfilter_fleet.worker import Worker

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    job = Job(SR, draw(tmp_path / "in.mkv", 2), tmp_path / "out.mkv", False, False)
    job.plan(SETTINGS)
    before = sorted(tmp_path.iterdir())
    plan = json.loads(job.plan_text)
    plan["settings"]["weights"] = "../../../../evil/x.safetensors/../y.sh"
    plan["input"] = "/etc/passwd"
    error, _, _ = Worker(SR, 1, "cpu", None).compute(json.dumps(plan).encode(), 0, job.cut(0), b"no weights")
    assert error
    plan["settings"]["weights"] = None
    error, packets, _ = Worker(SR, 1, "cpu", None).compute(json.dumps(plan).encode(), 0, job.cut(0), None)
    assert error is None and packets
    assert sorted(tmp_path.iterdir()) == before


def test_damaged_results_are_found(tmp_path):
    from srfilter_fleet.job import Job
    from srfilter_fleet.sr import SrError
    from srfilter_fleet.worker import Worker

    job = Job(SR, draw(tmp_path / "in.mkv", 2), tmp_path / "out.mkv", False, False)
    job.plan(SETTINGS)
    error, packets, manifest = Worker(SR, 1, "cpu", None).compute(job.plan_text, 1, job.cut(1), None)
    assert error is None
    with pytest.raises(SrError, match="segment 1 is damaged"):
        job.take(1, packets[:-1] + bytes([packets[-1] ^ 1]), manifest)
    with pytest.raises(SrError, match="segment 0 is damaged"):
        job.take(0, packets, manifest)
    assert job.take(1, packets, manifest)["index"] == 1
