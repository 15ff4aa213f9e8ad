"""Sends segments to workers and takes what they return."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from . import __version__
from .job import Job
from .sr import SrError, SrKilled
from .worker import Worker

#: Workers that may be lost on a segment before it is given up, or at their start on a machine.
LOSSES = 5
#: Segments that a machine fails, having finished none, after which it gets nothing more.
FAILURES = 2
#: Seconds without any worker, or with a segment that none may take, before the work ends.
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
    #: Machines that failed it, and why.
    errors: dict[str, str] = field(default_factory=dict)
    #: The workers that compute it, and since when.
    running: dict[Member, float] = field(default_factory=dict)
    result: dict | None = None
    #: Since when no worker may take it, or since when it has its result.
    since: float | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"segment {self.index} of {self.job.input}"


@dataclass(eq=False)
class Member:
    """A worker."""

    node: str
    host: str
    #: Its place among the workers of the machine.
    slot: int
    actor: ray.actor.ActorHandle
    #: The call that it is at.
    call: ray.ObjectRef
    task: Task | None = None
    is_ready: bool = False


@dataclass
class Machines:
    """What is known of machines, by their Ray node."""

    #: Segments that failed there.
    failures: dict[str, set[Task]] = field(default_factory=dict)
    #: Number of segments that were finished there.
    successes: dict[str, int] = field(default_factory=dict)
    #: Workers that did not start.
    starts: dict[str, int] = field(default_factory=dict)
    #: Machines that cannot have workers, and why.
    unfit: dict[str, str] = field(default_factory=dict)

    def is_retired(self, node: str) -> bool:
        """Whether a machine gets nothing more."""
        has_failed = len(self.failures.get(node, ())) >= FAILURES and not self.successes.get(node)
        return node in self.unfit or has_failed


class Fleet:
    """The workers of a cluster, and the segments that they compute."""

    def __init__(
        self, version: str, program: str, cores: int, gpus: bool, pin: bool, log: Log
    ) -> None:
        self.version, self.program, self.cores = version, program, cores
        self.gpus, self.pin, self.log = gpus, pin, log
        self.members: list[Member] = []
        self.machines = Machines()
        self.pool = ThreadPoolExecutor(2)
        self.planning: dict[Future, Job] = {}
        self.joining: dict[Future, Job] = {}
        #: Plans and weights in the object store, of the jobs whose segments are computed.
        self.plans: dict[Job, tuple[ray.ObjectRef, ray.ObjectRef | None]] = {}
        #: Tasks whose packets are not in the object store, being put there, and there.
        self.waiting: deque[Task] = deque()
        self.cutting: dict[Future, Task] = {}
        self.ready: deque[Task] = deque()
        self.running: set[Task] = set()
        self.seconds: list[float] = []

    # Workers.

    def room(self, node: dict) -> int:
        """The workers that a machine has room for: one for each GPU, or for so many cores."""
        resources = node["Resources"] if node["Alive"] else {}
        return int(resources.get("GPU", 0) if self.gpus else resources.get("CPU", 0) // self.cores)

    def add_members(self) -> None:
        """Starts workers where there is room."""
        for node in ray.nodes():
            id, host = node["NodeID"], node["NodeManagerHostname"]
            if self.machines.is_retired(id):
                continue
            taken = {member.slot for member in self.members if member.node == id}
            for slot in set(range(self.room(node))) - taken:
                options = {"num_gpus": 1} if self.gpus else {"num_cpus": self.cores}
                where = NodeAffinitySchedulingStrategy(id, soft=False)
                remote = ray.remote(Worker).options(scheduling_strategy=where, **options)
                device, own = "cuda" if self.gpus else "cpu", slot if self.pin else None
                actor = remote.remote(self.program, self.cores, device, own)
                self.members.append(Member(id, host, slot, actor, actor.versions.remote()))

    def remove(self, member: Member) -> None:
        """Forgets a worker, and ends it."""
        self.members.remove(member)
        with suppress(RayError):
            ray.kill(member.actor)

    def started(self, member: Member, versions: tuple[str, str]) -> None:
        """A worker has told its versions, which must be the driver's."""
        expected = (__version__, self.version)
        if tuple(versions) == expected:
            member.is_ready = True
            return
        self.retire(
            member,
            f"it has srfilter_fleet {versions[0]} and sr {versions[1]}, not {expected[0]} and "
            f"{expected[1]}",
        )

    def retire(self, member: Member, why: str) -> None:
        """A machine cannot have workers."""
        self.remove(member)
        if member.node not in self.machines.unfit:
            self.machines.unfit[member.node] = why
            self.log.warn(f"{member.host} gets no work: {why}")

    # Segments.

    def add(self, job: Job) -> None:
        """Adds the segments of a planned job that are not finished."""
        weights = None if job.weights is None else ray.put(job.weights)
        self.plans[job] = ray.put(job.plan_text), weights
        indices = (i for i in range(len(job.frames)) if i not in job.finished)
        self.waiting.extend(Task(job, index) for index in indices)

    @property
    def needs_work(self) -> bool:
        """Whether there are no more segments than workers."""
        return len(self.waiting) + len(self.ready) + len(self.cutting) <= len(self.members)

    def cut(self) -> None:
        """Puts the packets of the next segments into the object store."""
        for future in [future for future in self.cutting if future.done()]:
            task = self.cutting.pop(future)
            try:
                task.packets = ray.put(future.result())
            except (SrError, OSError) as error:
                raise JobError(task.job, f"{task.name}: {error}") from None
            self.ready.append(task)
        idle = sum(member.is_ready and member.task is None for member in self.members)
        while self.waiting and len(self.cutting) + len(self.ready) < idle + 2:
            task = self.waiting.popleft()
            self.cutting[self.pool.submit(task.job.cut, task.index)] = task

    def drop(self, job: Job) -> None:
        """Forgets the segments of a job, and ends the workers that compute them."""
        self.waiting = deque(task for task in self.waiting if task.job is not job)
        self.ready = deque(task for task in self.ready if task.job is not job)
        for future in [future for future, task in self.cutting.items() if task.job is job]:
            future.cancel()
            del self.cutting[future]
        self.running = {task for task in self.running if task.job is not job}
        for member in [m for m in self.members if m.task is not None and m.task.job is job]:
            self.remove(member)
        # It is the file's fault.
        for tasks in self.machines.failures.values():
            tasks -= {task for task in tasks if task.job is job}
        self.plans.pop(job, None)

    def median(self) -> float | None:
        """Seconds of a segment, once some are known."""
        return statistics.median(self.seconds) if len(self.seconds) >= 2 else None

    def next_task(self, member: Member) -> Task | None:
        """A segment for a worker: one that waits, or one that another takes too long for."""
        for task in self.ready:
            if member.node not in task.errors:
                self.ready.remove(task)
                return task
        median = self.median()
        if self.waiting or self.cutting or self.ready or median is None:
            return None
        late = time.monotonic() - STRAGGLER * median
        for task in self.running:
            if len(task.running) == 1 and member.node not in task.errors:
                if min(task.running.values()) < late:
                    return task
        return None

    def dispatch(self) -> None:
        """Gives segments to idle workers."""
        now = time.monotonic()
        for member in list(self.members):
            task = member.task
            if task is not None and task.result is not None:
                # A second one that is far behind the first.
                if now - task.since > (self.median() or 0):
                    self.remove(member)
                continue
            if not member.is_ready or task is not None:
                continue
            if self.machines.is_retired(member.node):
                self.remove(member)
                continue
            task = self.next_task(member)
            if task is None:
                continue
            plan, weights = self.plans[task.job]
            member.task = task
            member.call = member.actor.compute.remote(plan, task.index, task.packets, weights)
            task.running[member] = now
            task.since = None
            self.running.add(task)

    def check_stuck(self) -> None:
        """Ends the job of a segment that no worker may take."""
        now = time.monotonic()
        ready = {member.node for member in self.members if member.is_ready}
        for task in self.ready:
            if not (task.errors and ready and ready <= task.errors.keys()):
                task.since = None
            elif task.since is None:
                task.since = now
            elif now - task.since > PATIENCE:
                raise JobError(task.job, f"{task.name}: {list(task.errors.values())[-1]}")

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
            except RayTaskError as error:
                # The worker's own exception.
                cause = error.cause
                if not member.is_ready:
                    self.retire(member, str(cause))
                elif isinstance(cause, SrKilled):
                    self.lost(member, cause)
                else:
                    self.returned(member, str(cause), b"", b"")
            except RayError as error:
                # The worker, its machine or what it returned is gone.
                self.lost(member, error)
            else:
                if member.is_ready:
                    self.returned(member, *value)
                else:
                    self.started(member, value)

    def lost(self, member: Member, why: Exception) -> None:
        """A worker is gone: its segment waits for another."""
        self.remove(member)
        if not member.is_ready:
            starts = self.machines.starts[member.node] = (
                self.machines.starts.get(member.node, 0) + 1
            )
            if starts >= LOSSES:
                text = (str(why).strip() or type(why).__name__).splitlines()[0]
                self.machines.unfit[member.node] = text
                self.log.warn(f"{member.host} gets no work: its workers do not start: {text}")
            return
        task = member.task
        if task is None:
            return
        task.running.pop(member, None)
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
            if error is None:
                self.compare(task, member, manifest)
            return
        if error is None:
            try:
                task.result = task.job.take(task.index, packets, manifest)
            except OSError as problem:
                raise JobError(task.job, str(problem)) from None
            except SrError as problem:
                error = str(problem)
        if error is not None:
            self.failed(task, member, error)
            return
        node = member.node
        self.machines.successes[node] = self.machines.successes.get(node, 0) + 1
        self.running.remove(task)
        task.packets, task.since = None, time.monotonic()
        self.seconds.append(took)
        self.log.segment(task.job, task.result, member.host)

    def compare(self, task: Task, member: Member, manifest: bytes) -> None:
        """Compares the frames of a second worker with those of the first."""
        if json.loads(manifest)["frames_hash"] != task.result["frames_hash"]:
            task.job.forget(task.index)
            raise JobError(task.job, f"two machines differ in {task.name}, {member.host} is one")

    def failed(self, task: Task, member: Member, error: str) -> None:
        """A machine cannot compute a segment: another one shall."""
        node = member.node
        task.errors[node] = error
        self.machines.failures.setdefault(node, set()).add(task)
        self.log.warn(f"{member.host}: {task.name}: {error}")
        self.again(task)
        if self.machines.is_retired(node):
            self.log.warn(f"{member.host} gets no more work")
        nodes = [node["NodeID"] for node in ray.nodes() if self.room(node)]
        if nodes and all(n in task.errors or self.machines.is_retired(n) for n in nodes):
            raise JobError(task.job, f"{task.name}: {error}")

    # Jobs.

    def run(self, jobs: list[Job], plan: list[str]) -> list[Job]:
        """Does the work of all jobs, and returns those that failed."""
        left, failed = deque(jobs), []
        alone = seen = time.monotonic()
        self.add_members()
        while left or self.planning or self.plans or self.joining:
            now = time.monotonic()
            if now - seen > 2:
                seen = now
                self.add_members()
            if any(member.is_ready for member in self.members) or not self.plans:
                alone = now
            elif now - alone > PATIENCE:
                why = "; ".join(set(self.machines.unfit.values()))
                raise SrError(why or f"no machine of the cluster has {self.unit} for a worker")
            if left and self.needs_work and not self.planning:
                job = left.popleft()
                self.planning[self.pool.submit(job.plan, plan)] = job
            try:
                self.open()
                self.cut()
                self.dispatch()
                self.collect()
                self.check_stuck()
                self.join()
            except JobError as error:
                self.drop(error.job)
                error.job.close()
                if len(jobs) == 1:
                    raise
                self.log.warn(f"{error.job.input}: {error}")
                failed.append(error.job)
        return failed

    def open(self) -> None:
        """Adds the segments of what is planned."""
        for future in [future for future in self.planning if future.done()]:
            job = self.planning.pop(future)
            try:
                future.result()
            except (SrError, OSError) as error:
                raise JobError(job, str(error)) from None
            self.add(job)
            self.log.job(job)

    def join(self) -> None:
        """Writes the outputs of jobs whose segments are there."""
        for job in [job for job in self.plans if job.is_finished]:
            del self.plans[job]
            self.joining[self.pool.submit(job.join)] = job
        for future in [future for future in self.joining if future.done()]:
            job = self.joining.pop(future)
            try:
                future.result()
            except (SrError, OSError) as error:
                raise JobError(job, str(error)) from None
            self.log.done(job)

    @property
    def unit(self) -> str:
        """What a worker takes."""
        return "a GPU" if self.gpus else f"{self.cores} cores"

    def close(self) -> None:
        """Ends the workers, and waits for what the driver itself does."""
        for member in list(self.members):
            self.remove(member)
        self.pool.shutdown(wait=True, cancel_futures=True)


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

    def print(self, line: dict) -> None:
        """Prints a line of JSON."""
        if self.is_json:
            print(json.dumps(line, sort_keys=True), file=self.out, flush=True)

    def job(self, job: Job) -> None:
        """A file is planned."""
        self.total += sum(job.frames)
        for found in job.finished.values():
            self.frames += found["frames"]
            self.print(found | {"input": str(job.input)})

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
                "frames_per_second": round(self.computed / seconds, 2),
            }
        )
        if not self.is_json:
            text = f"{job.output}: {frames} frames, {size / 1e6:.1f} MB"
            print(text, file=self.out, flush=True)
