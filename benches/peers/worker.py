"""The process that runs our side of a bench: commands in, answers out, a line each."""

import os
import subprocess


class Worker:
    """A worker of Rust, on a number of threads."""

    def __init__(self, program, argument, threads):
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            [program, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        verdict, _, answer = self.process.stdout.readline().strip().partition(" ")
        if verdict != "ok":
            raise SystemExit(f"worker: {' '.join(map(str, words))}: {answer or 'it died'}")
        return answer
