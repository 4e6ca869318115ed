"""Do jobs of a sweep or a search one after another in one process, which imports PyTorch once.

Started by `pipeline.study.pool` in the folder of a block. Each line of standard input is a job, and each is answered by
a line on standard output; what the job prints goes to its log. A process whose job failed ends: a GPU's memory may be
in disorder. It also ends, as by SIGTERM, when its input does, so that no training outlives the command that asked for
it, however that was ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path

import torch

from pipeline import config, fingerprint
from pipeline.classical.saved import load_fitted
from pipeline.errors import UserError
from pipeline.files import JsonDict, read_json
from pipeline.fingerprint import RunSettings
from pipeline.labels.truth import read_targets
from pipeline.study import lr_search, numerics, publish
from pipeline.study.block_folder import from_repository
from pipeline.study.jobs import Job, MeasureJob, RunJob, SearchJob, job_of
from pipeline.study.provenance import code_digest
from pipeline.study.trial import kept
from pipeline.training import autotune
from pipeline.training.hardware import numerics_key
from pipeline.training.saved_model import load_trained
from pipeline.trouble import explain, in_one_sentence
from pipeline.workspace import RunKey
from stages import evaluate, train


def main() -> None:
    """Answer jobs until the input ends."""
    with in_one_sentence(), os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        code_digest()  # of the code that this process has imported, whatever is edited meanwhile
        jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=receive, args=(jobs,), daemon=True).start()
        answer: JsonDict = {}
        while "error" not in answer:
            answer = answered(jobs.get())
            print(json.dumps(answer), file=answers, flush=True)


def receive(jobs: queue.SimpleQueue[Job]) -> None:
    """Queue the jobs of standard input; at its end stop the process."""
    # Without a buffer, whose lock this thread would hold when the process ends.
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            jobs.put(job_of(json.loads(line)))
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGTERM)


def answered(job: Job) -> JsonDict:
    """Do a job with its output in its log; return what came out, or the error in one sentence."""
    sys.stdout.flush()
    with job.log.open("w", encoding="utf-8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        found = done(job)
    except Exception as error:  # whatever it is: the other jobs go on
        sentence = str(error) if isinstance(error, UserError) else explain(error)
        if sentence is None:
            traceback.print_exc()
            sentence = f"{type(error).__name__}: {error}"
        print(f"error: {sentence}", flush=True)
        return {"error": from_repository(sentence)}
    return {"found": found}


def done(job: Job) -> JsonDict:
    """Do a job of any kind and return what came out."""
    match job:
        case RunJob():
            return make_run(job)
        case SearchJob():
            return search_rate(job)
        case MeasureJob():
            return numerics.measured(job.machine, torch.get_num_threads())
    raise TypeError(f"{type(job).__name__} is no job of this process")


def make_run(job: RunJob) -> JsonDict:
    """Train and evaluate a run as the stages do, and publish it; return its accuracy on PublicTest."""
    params, run_key = config.load(), job.run_key
    threads = torch.get_num_threads()
    try:
        if not is_trained(run_key, params):
            train.main(run_key.model, run_key.seed)
    finally:
        # What follows, here and in the next job, finds the process as its own would be.
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    evaluate.evaluate(run_key, params, figures=job.figures)
    folder = Path(job.folder)
    if job.figures:  # first: the other files mark the run as complete
        publish.keep_figures(folder, run_key)
    publish.keep_run(folder, run_key, job.origin)
    if not job.figures:
        publish.remove_figures(folder, run_key)
    return {"val_accuracy": read_json(run_key.metrics)["val"]["accuracy"]}


def is_trained(run_key: RunKey, params: config.Params) -> bool:
    """Return whether the folder has the whole of this run, by these settings, data, code and hardware."""
    try:
        trained, history = run_key.facts()["inputs_digest"], run_key.read_history()
        (load_fitted if params.model(run_key.model).classifier else load_trained)(run_key.models)
    except (UserError, LookupError, OSError, TypeError, ValueError):  # it is missing or damaged
        return False
    settings, (targets, _) = RunSettings.of(params, run_key), read_targets(run_key)
    inputs = fingerprint.training_inputs(settings, targets)
    if not settings.model.classifier:
        inputs |= {"arithmetic": numerics_key(autotune.choose(params.machine), 1)}
    return bool(history) and trained == fingerprint.digest(inputs)


def search_rate(job: SearchJob) -> JsonDict:
    """Search the learning rate of one row; return it and the accuracy on PublicTest that it reached."""
    params, file = config.load(), Path(job.folder) / "learning_rates.json"
    lr_search.search_one(file, job.model, params)
    trials = [run for run in lr_search.comparable(kept(file), params) if run["model"] == job.model]
    rate = lr_search.best(trials, job.model)
    reached = max(lr_search.accuracy(run) for run in trials if run["learning_rate"] == rate)
    return {"rate": rate, "val_accuracy": reached, "trials": len(trials)}
