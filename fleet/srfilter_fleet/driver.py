"""Sends segments to workers and takes what they return."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TextIO

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from . import __version__
from .job import Job
from .sr import SrError
from .worker import Worker

#: Workers that may be lost on a segment before it is given up.
LOSSES = 5
#: Errors of a machine that has finished nothing, after which it gets nothing more.
ERRORS = 2
#: Seconds without any worker before the work ends.
PATIENCE = 60.0
#: How many times as long as the median a segment takes when another worker tries it as well.
STRAGGLER = 2.0


class JobError(SrError):
    """A file cannot be upscaled."""

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job


@dataclass(eq=False)
class Task:
    """A segment that is to be computed."""

    job: Job
    index: int
    packets: ray.ObjectRef | None = None
    losses: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    #: The workers that compute it, and since when.
    running: dict[Member, float] = field(default_factory=dict)
    result: dict | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"segment {self.index} of {self.job.input}"


@dataclass(eq=False)
class Member:
    """A worker."""

    node: str
    host: str
    actor: ray.actor.ActorHandle
    #: The call that it is at.
    call: ray.ObjectRef
    task: Task | None = None
    is_ready: bool = False


class Fleet:
    """The workers of a cluster, and the segments that they compute."""

    def __init__(
        self, version: str, program: str, cores: int, device: str, gpus: bool, log: Log
    ) -> None:
        self.version, self.program, self.cores, self.device = version, program, cores, device
        self.gpus, self.log = gpus, log
        self.members: list[Member] = []
        #: Tasks whose packets are not in the object store, being put there, and there.
        self.waiting: deque[Task] = deque()
        self.cutting: dict[Future, Task] = {}
        self.ready: deque[Task] = deque()
        self.running: set[Task] = set()
        #: Of each machine: errors, and finished segments.
        self.errors: dict[str, int] = {}
        self.successes: dict[str, int] = {}
        self.seconds: list[float] = []
        self.pool = ThreadPoolExecutor(2)
        self.plans: dict[Job, tuple[ray.ObjectRef, ray.ObjectRef | None]] = {}

    # Workers.

    def is_retired(self, node: str) -> bool:
        """Whether a machine has failed too often."""
        return self.errors.get(node, 0) >= ERRORS and not self.successes.get(node)

    def room(self, node: dict) -> int:
        """The workers that a machine has room for: one for each GPU, or for so many cores."""
        resources = node["Resources"] if node["Alive"] else {}
        return int(resources.get("GPU", 0) if self.gpus else resources.get("CPU", 0) // self.cores)

    def add_members(self) -> None:
        """Starts workers where there is room."""
        for node in ray.nodes():
            id = node["NodeID"]
            if self.is_retired(id):
                continue
            here = sum(member.node == id for member in self.members)
            for _ in range(self.room(node) - here):
                options = {"num_gpus": 1} if self.gpus else {"num_cpus": self.cores}
                where = NodeAffinitySchedulingStrategy(id, soft=False)
                remote = ray.remote(Worker).options(scheduling_strategy=where, **options)
                actor = remote.remote(self.program, self.cores, self.device)
                host = node["NodeManagerHostname"]
                self.members.append(Member(id, host, actor, actor.versions.remote()))

    def remove(self, member: Member) -> None:
        """Forgets a worker, and ends it."""
        self.members.remove(member)
        ray.kill(member.actor)

    def is_same_version(self, member: Member, versions: tuple[str, str]) -> bool:
        """Whether a worker has the driver's versions."""
        expected = (__version__, self.version)
        if versions == expected:
            return True
        self.log.warn(
            f"{member.host} has srfilter_fleet {versions[0]} and sr {versions[1]}, not "
            f"{expected[0]} and {expected[1]}: it gets no work"
        )
        return False

    # Segments.

    def add(self, job: Job) -> None:
        """Adds the segments of a planned job that are not finished."""
        weights = None if job.weights is None else ray.put(job.weights)
        self.plans[job] = ray.put(job.plan_text), weights
        indices = (i for i in range(len(job.frames)) if i not in job.finished)
        self.waiting.extend(Task(job, index) for index in indices)

    @property
    def needs_work(self) -> bool:
        """Whether there are fewer segments than workers."""
        return len(self.waiting) + len(self.ready) + len(self.cutting) < len(self.members)

    def cut(self) -> None:
        """Puts the packets of the next segments into the object store."""
        for future in [future for future in self.cutting if future.done()]:
            task = self.cutting.pop(future)
            try:
                task.packets = ray.put(future.result())
            except SrError as error:
                raise JobError(task.job, f"{task.name}: {error}") from None
            self.ready.append(task)
        idle = sum(member.is_ready and member.task is None for member in self.members)
        while self.waiting and len(self.cutting) + len(self.ready) < idle + 2:
            task = self.waiting.popleft()
            self.cutting[self.pool.submit(task.job.cut, task.index)] = task

    def drop(self, job: Job) -> None:
        """Forgets the segments of a job; what workers return of it is ignored."""
        self.waiting = deque(task for task in self.waiting if task.job is not job)
        self.ready = deque(task for task in self.ready if task.job is not job)
        self.cutting = {f: task for f, task in self.cutting.items() if task.job is not job}
        self.running = {task for task in self.running if task.job is not job}
        del self.plans[job]

    def next_task(self, member: Member) -> Task | None:
        """A segment for a worker: one that waits, or one that another takes too long for."""
        for task in self.ready:
            if member.node not in task.errors:
                self.ready.remove(task)
                return task
        if self.waiting or self.cutting or self.ready or len(self.seconds) < 2:
            return None
        late = time.monotonic() - STRAGGLER * statistics.median(self.seconds)
        for task in self.running:
            if len(task.running) == 1 and member.node not in task.errors:
                if min(task.running.values()) < late:
                    return task
        return None

    def dispatch(self) -> None:
        """Gives segments to idle workers."""
        for member in list(self.members):
            if not member.is_ready or member.task is not None:
                continue
            if self.is_retired(member.node):
                self.remove(member)
                continue
            task = self.next_task(member)
            if task is None:
                continue
            plan, weights = self.plans[task.job]
            member.task = task
            member.call = member.actor.compute.remote(plan, task.index, task.packets, weights)
            task.running[member] = time.monotonic()
            self.running.add(task)

    def collect(self) -> None:
        """Takes what workers have done, after a tenth of a second at most."""
        calls = {m.call: m for m in self.members if m.task is not None or not m.is_ready}
        if not calls:
            time.sleep(0.1)
            return
        done, _ = ray.wait(list(calls), timeout=0.1)
        for call in done:
            member = calls[call]
            try:
                value = ray.get(call)
            except RayActorError:
                self.lost(member)
                continue
            except RayError as error:
                # An exception of the worker, such as a program that is not there.
                cause = getattr(error, "cause", None) or error
                value = (str(cause), b"", b"")
            if member.is_ready:
                self.returned(member, *value)
            elif len(value) == 2 and self.is_same_version(member, value):
                member.is_ready = True
            else:
                if len(value) != 2:
                    self.log.warn(f"{member.host}: {value[0]}: it gets no work")
                self.errors[member.node] = ERRORS
                self.remove(member)

    def lost(self, member: Member) -> None:
        """A worker is gone: its segment waits for another."""
        self.remove(member)
        task = member.task
        if task is None:
            return
        del task.running[member]
        if task not in self.running:
            return
        task.losses += 1
        self.log.warn(f"the worker on {member.host} was lost at {task.name}")
        if task.losses >= LOSSES:
            raise JobError(task.job, f"{task.losses} workers were lost at {task.name}")
        self.again(task)

    def again(self, task: Task) -> None:
        """Puts a segment before the others, if no other worker is at it."""
        if not task.running:
            self.running.discard(task)
            self.ready.appendleft(task)

    def returned(self, member: Member, error: str | None, packets: bytes, manifest: bytes) -> None:
        """A worker has computed a segment, or failed."""
        task, member.task = member.task, None
        took = time.monotonic() - task.running.pop(member)
        if task not in self.running:
            if error is None and task.result is not None:
                self.compare(task, member, manifest)
            return
        if error is None:
            try:
                task.result = task.job.take(task.index, packets, manifest)
            except SrError as problem:
                error = str(problem)
        if error is not None:
            self.failed(task, member, error)
            return
        self.successes[member.node] = self.successes.get(member.node, 0) + 1
        self.running.remove(task)
        task.packets = None
        self.seconds.append(took)
        self.log.segment(task.job, task.result, member.host)

    def compare(self, task: Task, member: Member, manifest: bytes) -> None:
        """Compares the frames of a second worker with those of the first."""
        found = json.loads(manifest)["frames_hash"]
        if found != task.result["frames_hash"]:
            raise SrError(f"{member.host} has computed other frames than another, in {task.name}")

    def failed(self, task: Task, member: Member, error: str) -> None:
        """A machine cannot compute a segment: another one shall."""
        task.errors[member.node] = error
        self.errors[member.node] = self.errors.get(member.node, 0) + 1
        self.log.warn(f"{member.host}: {task.name}: {error}")
        self.again(task)
        if self.is_retired(member.node):
            self.log.warn(f"{member.host} gets no more work")
        nodes = {node["NodeID"] for node in ray.nodes() if self.room(node)}
        if all(node in task.errors or self.is_retired(node) for node in nodes):
            raise JobError(task.job, f"{task.name}: {error}")

    def run(self, jobs: list[Job], plan: list[str]) -> list[Job]:
        """Does the work of all jobs, and returns those that failed."""
        left, open, failed = deque(jobs), [], []
        alone = seen = time.monotonic()
        self.add_members()
        while left or open:
            now = time.monotonic()
            if now - seen > 2:
                seen = now
                self.add_members()
            if any(member.is_ready for member in self.members):
                alone = now
            elif now - alone > PATIENCE:
                raise SrError(f"no machine of the cluster has {self.unit} for a worker")
            try:
                if left and (self.needs_work or not open):
                    job = left.popleft()
                    self.open(job, plan)
                    open.append(job)
                self.cut()
                self.dispatch()
                self.collect()
                for job in [job for job in open if job.is_finished]:
                    self.join(job)
                    open.remove(job)
            except JobError as error:
                if len(jobs) == 1:
                    raise
                self.log.warn(f"{error.job.input}: {error}")
                error.job.close()
                failed.append(error.job)
                if error.job in open:
                    open.remove(error.job)
                    self.drop(error.job)
        return failed

    def open(self, job: Job, plan: list[str]) -> None:
        """Plans a job, and adds its segments."""
        try:
            job.plan(plan)
        except SrError as error:
            raise JobError(job, str(error)) from None
        self.add(job)
        self.log.job(job)

    def join(self, job: Job) -> None:
        """Writes the output of a job whose segments are there."""
        try:
            job.join()
        except SrError as error:
            raise JobError(job, str(error)) from None
        self.log.done(job)

    @property
    def unit(self) -> str:
        """What a worker takes."""
        return "a GPU" if self.gpus else f"{self.cores} cores"

    def close(self) -> None:
        """Ends the workers."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for member in self.members:
            ray.kill(member.actor)


class Log:
    """What is told while the work goes on: lines of JSON, or a line of progress."""

    def __init__(self, out: TextIO, is_json: bool) -> None:
        self.out, self.is_json = out, is_json
        self.start = time.monotonic()
        self.frames = self.total = self.computed = 0

    def warn(self, text: str) -> None:
        """Prints a message."""
        self.clear()
        print(f"srfilter_fleet: {text}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Clears the line of progress."""
        if sys.stderr.isatty() and not self.is_json:
            print("\r\033[K", end="", file=sys.stderr)

    def job(self, job: Job) -> None:
        """A file is planned."""
        self.total += sum(job.frames)
        for found in job.finished.values():
            self.frames += found["frames"]
            self.print(found)

    def print(self, line: dict) -> None:
        """Prints a line of JSON."""
        if self.is_json:
            print(json.dumps(line, sort_keys=True), file=self.out, flush=True)

    def segment(self, job: Job, found: dict, host: str) -> None:
        """A segment is finished."""
        self.frames += found["frames"]
        self.computed += found["frames"]
        self.print(found | {"kept": False, "input": str(job.input), "worker": host})
        if self.is_json:
            return
        rate = self.computed / (time.monotonic() - self.start)
        text = f"{self.frames}/{self.total} frames  {rate:.1f} frames/s"
        if sys.stderr.isatty():
            left = (self.total - self.frames) / rate
            print(f"\r\033[K{text}  {left:.0f} s left", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def done(self, job: Job) -> None:
        """A file is whole."""
        self.clear()
        size, seconds = job.output.stat().st_size, time.monotonic() - self.start
        frames = sum(job.frames)
        self.print(
            {
                "event": "done",
                "output": str(job.output),
                "frames": frames,
                "bytes": size,
                "seconds": round(seconds, 3),
            }
        )
        if not self.is_json:
            text = f"{job.output}: {frames} frames, {size / 1e6:.1f} MB"
            print(text, file=self.out, flush=True)
