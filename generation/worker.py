"""
One thread that does all the model's work, and the bounded queue before it.

First come, first served. When a batch starts, waiting requests with the same settings join it. A request that is
cancelled leaves the queue at once, or ends at the next token. Requests for candidates, which take a single forward
pass, are answered between two tokens of a batch.
"""

import secrets
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from configurator import UserError, first_line, is_out_of_memory
from generation.batching import generate, max_batch_size
from generation.choices import Choice
from generation.compiled import CompiledDecoder
from generation.completions import ApiError
from generation.jobs import CandidatesJob, CompletionJob, Job, LoadedModel, Waiting

SERVER_ENDS = ApiError(503, "the server was ended", code="server_ended")


class Worker(threading.Thread):
    """start(), wait_until_ready(), submit(job), cancel(job), stop()."""

    def __init__(self, load: Callable[[str], LoadedModel], max_queue: int):
        """load(model id): the model, in memory. Called in this thread, first with "". Raises ApiError or UserError.

        max_queue: requests that may wait.
        """
        super().__init__(name="worker", daemon=True)
        self.load, self.max_queue = load, max_queue
        self.waiting, self.running = [], []  # jobs
        self.changed = threading.Condition()  # its lock guards both
        self.stopped, self.ready, self.error = False, threading.Event(), None
        self.tokens_per_s = None  # of the newest batch, all its texts together

    # -- for other threads ---------------------------------------------------------------------------------------------

    def wait_until_ready(self) -> None:
        """Wait for the first model. Raises what its loading raised."""
        while not self.ready.wait(0.2):  # on Windows, Ctrl-C does not interrupt a wait without a limit
            pass
        if self.error:
            raise self.error

    def submit(self, job: Job) -> None:
        """Put a job into the queue. Raises ApiError when the queue is full."""
        with self.changed:
            if self.stopped:
                raise SERVER_ENDS
            if len(self.waiting) >= self.max_queue:
                raise ApiError(
                    429,
                    f"{len(self.waiting)} requests are waiting already; try again in some seconds",
                    code="queue_full",
                    headers={"Retry-After": "5"},
                )
            self.waiting.append(job)
            if self.running or len(self.waiting) > 1:
                job.emit(Waiting(len(self.waiting)))
            self.changed.notify()

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job's results any more."""
        job.cancelled = True
        self._take_from_queue(job)

    def stop(self) -> None:
        """End all jobs with an error, and the thread at the next token."""
        with self.changed:
            self.stopped = True
            for job in (*self.running, *self.waiting):
                job.finish(SERVER_ENDS)
            self.waiting.clear()
            self.changed.notify()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Load the default model, then serve the queue."""
        try:
            self.load("")
        except Exception as error:
            self.error = error
        self.ready.set()
        while not self.error and (job := self._next()):
            try:
                self._serve(job)
            except Exception as error:
                fail(self.running, error)

    def _next(self) -> Job | None:
        """Wait for a job; None: the server ends."""
        with self.changed:
            self.running = []
            self.changed.wait_for(lambda: self.waiting or self.stopped)
            if self.stopped:
                return None
            self.running = [self.waiting[0]]
            self._take_from_queue(self.running[0])
            return self.running[0]

    def _serve(self, job: Job) -> None:
        """Do a job, and those that can be done in one batch with it."""
        loaded = self.load(job.request.model)
        if isinstance(job, CandidatesJob):
            return job.run(loaded)
        job.prepare(loaded)
        model = loaded.model
        rows = max_batch_size(model, model.transformer.wpe.weight.device, job.request.params.max_new_tokens)
        if job.request.seed is not None and isinstance(model.decoder, CompiledDecoder):
            rows = 1  # it decodes a single text: each is then the one that n=1 gives
        if job.shareable:
            self._join(loaded, job, rows)
        for each in self.running:
            each.echo(loaded)
        jobs = [each for each in self.running if not each.finished and not each.cancelled]
        if jobs:
            self._write(loaded, jobs, rows)

    def _join(self, loaded: LoadedModel, first: CompletionJob, rows: int) -> None:
        """Let waiting jobs with the settings of the first run with it. rows: how many texts fit into a batch.

        A longer prompt is read token by token while shorter ones are continued. So prompts whose lengths differ by more
        than half of the tokens to generate do not go together.
        """
        for job in list(self.waiting):
            if not isinstance(job, CompletionJob) or not job.shareable or job.request.model != first.request.model:
                continue
            try:
                job.prepare(loaded)
            except ApiError:  # raised again when its turn comes
                continue
            batch = [*self.running, job]
            lengths = [length for each in batch for length in each.lengths]
            near = max(lengths) - min(lengths) <= first.request.max_tokens // 2
            fits = job.settings == first.settings and sum(len(each.choices) for each in batch) <= rows
            if near and fits and self._take_from_queue(job):
                self.running = batch

    def _write(self, loaded: LoadedModel, jobs: list[CompletionJob], rows: int) -> None:
        """Generate the texts of all jobs, `rows` at a time."""
        request, choices = jobs[0].request, [choice for job in jobs for choice in job.choices]
        params = replace(request.params, max_new_tokens=max(job.request.max_tokens for job in jobs))
        seed = secrets.randbelow(2**40) if request.seed is None else request.seed
        began = time.perf_counter()

        def update(batch: list[Choice]) -> None:
            """Pass on what is new. Called after each token; on a GPU after several."""
            if self.stopped:
                raise SERVER_ENDS
            self.tokens_per_s = sum(choice.new_tokens for choice in choices) / (time.perf_counter() - began)
            for job in jobs:
                job.update()
            self._answer_candidates(loaded, request.model)

        for first in range(0, len(choices), rows):
            batch = choices[first : first + rows]
            if not all(choice.done for choice in batch):  # they are when their jobs were cancelled
                wanted = any(choice.logprobs is not None for choice in batch)
                generate(loaded.model, loaded.tokenizer, batch, params, seed, first, update, jobs[0].keep, wanted)

    def _answer_candidates(self, loaded: LoadedModel, model_id: str) -> None:
        """Answer the first waiting request for candidates of this model, if there is one."""
        mine = (job for job in list(self.waiting) if isinstance(job, CandidatesJob) and job.request.model == model_id)
        job = next(mine, None)
        if job and self._take_from_queue(job):
            try:
                job.run(loaded)
            except Exception as error:
                fail([job], error)

    def _take_from_queue(self, job: Job) -> bool:
        """Take a job from the queue; False: it is not there any more."""
        with self.changed:
            if job not in self.waiting:
                return False
            self.waiting.remove(job)
            for place, each in enumerate([job, *self.waiting]):
                each.emit(Waiting(place))
            return True


def fail(jobs: list[Job], error: Exception) -> None:
    """End jobs with an error. One that nobody expected is printed."""
    if isinstance(error, UserError):
        error = ApiError(503, str(error), code="model_unavailable")
    elif is_out_of_memory(error):
        error = ApiError(503, f"out of memory: {first_line(error)}", code="out_of_memory")
    elif not isinstance(error, ApiError):
        traceback.print_exception(error)
        error = ApiError(500, f"generation failed: {first_line(error)}", code="internal_error")
    for job in jobs:
        job.finish(error)
