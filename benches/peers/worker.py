"""The process that runs our side of a bench: commands in, answers out, a line each."""

import os
import subprocess


class Worker:
    """A worker on a number of threads: its program and arguments."""

    def __init__(self, command, threads):
        # candle's own threads spin while they wait: `train` does without, too.
        settings = {"RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, **settings),
        )

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        verdict, _, answer = self.process.stdout.readline().strip().partition(" ")
        if verdict != "ok":
            raise SystemExit(f"worker: {' '.join(map(str, words))}: {answer or 'it died'}")
        return answer
