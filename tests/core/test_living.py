"""Who is at a run, and what becomes of it: signs of life, sweeps and their parents, two commands at once, signals."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from filelock import FileLock

from reprod import cli, store, training
from reprod.config import resolve
from reprod.errors import BadInput, Interrupted
from reprod.jobs import housekeeping, launch, plan, pool
from reprod.jobs import sweep as sweep_
from reprod.store import connection, liveness, outbox, writer
from reprod.store.liveness import SEEN, alive
from tests.core.toy import Toy


def config(**values):
    return resolve(Toy, {k: str(v) for k, v in values.items()})


def reprod(*words: str) -> int:
    return launch.guarded(lambda: cli.app(list(words), standalone_mode=False) or 0)


def left_behind(**tags: str) -> str:
    """A run of the toy that is RUNNING, on another machine, silent since an hour unless `tags` say otherwise."""
    run = writer.open_run(config(rate=0.7))
    run.outbox.close(20)
    client = connection.connect()
    for name, value in {"reprod.host": "elsewhere", SEEN: str(int(time.time()) - 3600), **tags}.items():
        client.set_tag(run.run_id, name, value) if value else client.delete_tag(run.run_id, name)
    return run.run_id


# -- signs of life --------------------------------------------------------------------------------------------------


def test_a_run_sends_signs_of_life_and_its_seeds_too(toy, monkeypatch):
    monkeypatch.setattr(outbox.Outbox, "INTERVAL", 0.02)
    monkeypatch.setattr(outbox.Outbox, "BEAT", 0.1)
    run = writer.open_run(config(seeds="0,1"))
    ids = [run.run_id, *(child.run_id for child in run.children())]
    client = connection.connect()
    for run_id in ids:
        client.set_tag(run_id, SEEN, "0")
    time.sleep(1.0)
    assert all(float(client.get_run(run_id).data.tags[SEEN]) > time.time() - 60 for run_id in ids)
    run.settle("KILLED")
    assert run.close(20)
    client.set_tag(ids[0], SEEN, "0")
    time.sleep(0.3)
    assert client.get_run(ids[0]).data.tags[SEEN] == "0", "what has ended is not written to"


@pytest.mark.parametrize(("tags", "state"), [
    ({}, "dead"),
    ({SEEN: "now"}, "live"),
    ({SEEN: ""}, "live"),  # of a version that sent none: by its age, and it has just begun
    ({"reprod.host": "", "reprod.process": ""}, "dead"),
])  # fmt: skip
def test_a_run_of_another_machine_is_alive_as_long_as_it_is_heard_of(toy, tags, state):
    run_id = left_behind(**{name: str(int(time.time())) if value == "now" else value for name, value in tags.items()})
    record = store.Store().get(run_id)
    assert housekeeping.state(record)[0] == state
    if state == "dead" and not tags:
        assert "not heard of for 60 min (it ran on elsewhere)" in housekeeping.state(record)[1]


def test_an_old_run_without_signs_of_life_is_dead_a_day_after_its_start(toy, monkeypatch):
    record = store.Store().get(left_behind(**{SEEN: ""}))
    assert alive(record.entity)
    now = time.time()
    monkeypatch.setattr(liveness.time, "time", lambda: now + liveness.OLD)
    assert not alive(record.entity)


def test_a_silent_run_is_repaired_resumed_and_does_not_block(toy):
    run_id = left_behind()
    made = plan.make([config(rate=0.7)], store.Store())
    assert [job.resume for job in made.jobs] == [run_id] and not made.running
    assert launch.resume(run_id) == 0
    assert store.Store().get(run_id).status == "FINISHED"


def test_a_run_is_declared_dead_by_a_person_but_not_under_the_hands_of_its_process(toy, capsys):
    run_id = left_behind(**{SEEN: str(int(time.time()))})
    with pytest.raises(BadInput, match=f"reprod status --dead {run_id}"):
        launch.resume(run_id)
    assert reprod("status", "--dead", run_id) == 0
    assert store.Store().get(run_id).status == "KILLED"
    assert reprod("status", "--dead", run_id) == 2
    here = writer.open_run(config(rate=0.8))
    assert reprod("status", "--dead", here.run_id) == 2
    assert f"process {os.getpid()} is at it here" in capsys.readouterr().err
    here.settle("KILLED")
    here.close(10)


# -- sweeps ---------------------------------------------------------------------------------------------------------


def test_the_parent_of_a_killed_sweep_is_shown_and_settled(toy, capsys):
    client = connection.connect()
    with writer.sweep("toy", "sweep toy", "one", "note") as parent:
        assert client.get_run(parent).data.tags["reprod.process"].startswith(f"{os.getpid()}:")
    client.update_run(parent, status="RUNNING")
    client.set_tag(parent, "reprod.process", "999999999:1.0")  # as after kill -9
    assert reprod("status") == 0
    said = capsys.readouterr().out
    assert f"dead      {parent}" in said and "`reprod status --repair` settles" in said
    assert reprod("status", "--repair") == 0
    assert client.get_run(parent).info.status == "KILLED"


def test_a_sweep_shows_the_finished_runs_that_it_reuses(toy, capfd):
    assert launch.execute(config(rate=0.2)) == 0
    (old,) = store.Store().search("toy")
    assert sweep_.sweep("toy", {"rate": "0.2,0.3", "niter": "60"}, pool.Options(), again=False) == 0
    parent = capfd.readouterr().out.split("parent run ")[1].split()[0]
    under = {r.config.rate: r.id for r in store.Store().children(parent)}
    assert under.keys() == {0.2, 0.3} and under[0.2] == old.id
    assert old.id in store.Store().get(parent).tags["mlflow.note.content"]


def test_two_commands_at_once_share_their_runs(toy, tmp_path, capsys):
    """Another process holds the claim of one of two jobs; it finishes that one, and we run the other."""
    jobs = [plan.Job(config(rate=0.2)), plan.Job(config(rate=0.3))]
    taken = FileLock(_claim(config(rate=0.3)), thread_local=False)
    taken.acquire()

    def other() -> None:
        time.sleep(1.0)
        made = writer.open_run(config(rate=0.3))
        with writer.recording(made):
            made.log(1, {"walk/position": 1.0})
        taken.release()

    thread = threading.Thread(target=other)
    thread.start()
    outcomes = pool.run_all(jobs, pool.Options(workers=2))
    thread.join()
    assert [(o.state, o.reason) for o in outcomes] == [("finished", ""), ("finished", "by another process")]
    assert sorted(r.config.rate for r in store.Store().search("toy")) == [0.2, 0.3], "each of them once"


def _claim(one: Toy) -> str:
    claims = pool._Claims()
    return str(claims.folder / f"{claims.store}-{one.for_seed(one.seeds[0]).digest()}.lock")


def test_waiting_for_others_has_an_end_and_a_sentence(toy, capfd):
    taken = FileLock(_claim(config(rate=0.3)))
    taken.acquire()
    (outcome,) = pool.run_all([plan.Job(config(rate=0.3))], pool.Options(), wait=0.6)
    taken.release()
    assert outcome.state == "elsewhere"
    assert "another process is at 1 of these jobs" in capfd.readouterr().err
    run_id = left_behind(**{SEEN: str(int(time.time()))})
    assert sweep_.sweep("toy", {"rate": "0.7"}, pool.Options(), again=False, wait=1.5) == 1
    said = capfd.readouterr()
    assert f"waiting for runs that others are at, 0 min at most (--wait): {run_id} (process" in said.err
    assert "still with another process" in said.out and "started again later" in said.out


def test_a_dead_process_holds_no_claim_and_a_diverged_seed_is_not_repeated(toy):
    lock = FileLock(_claim(config(rate=0.4)))
    lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0)  # as `kill -9`: without a word
    os.waitpid(child, 0)
    lock.release()
    (outcome,) = pool.run_all([plan.Job(config(rate=0.4))], pool.Options())
    assert outcome.state == "finished"


# -- signals --------------------------------------------------------------------------------------------------------


def test_a_closed_terminal_stops_a_run_like_sigterm(toy):
    long = config(niter="2e6", checkpoint_every="2e6")
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGHUP)).start()
    with pytest.raises(Interrupted) as error:
        launch.execute(long)
    (record,) = store.Store().search("toy")
    assert record.status == "KILLED" and len(list(record.path("checkpoints").glob("*.pt"))) == 1
    assert error.value.advice == f"run {record.id} is KILLED, `reprod resume {record.id}` continues it"


def test_an_ignored_sighup_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = {s: signal.getsignal(s) for s in training.STOPPING}
    try:
        training.signals.install()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_says_at_once_what_it_does_and_ends_with_the_way_on(capfd):
    signals = training._Signals()
    with signals.deferred():
        signals._receive(signal.SIGINT, None)
        said = capfd.readouterr().err
        assert "stopping after the iteration at hand" in said and "the same again stops at once" in said
        signals._receive(signal.SIGINT, None)  # one key press is not two
        signals.since -= 3
        with pytest.raises(Interrupted):
            signals._receive(signal.SIGINT, None)

    def interrupted():
        error = Interrupted(signal.SIGINT)
        error.advice = "run x is KILLED, `reprod resume x` continues it"
        raise error

    assert launch.guarded(interrupted) == 130
    assert capfd.readouterr().err == "reprod: stopped by SIGINT; run x is KILLED, `reprod resume x` continues it\n"


def test_ctrl_c_on_many_runs_says_so_and_is_passed_on_twice_at_most(capfd):
    with pool._stopping() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop == [signal.SIGINT] and "stopping: each running job" in capfd.readouterr().err


# -- first words ----------------------------------------------------------------------------------------------------


def test_a_long_first_iteration_is_announced_and_gives_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    with training.progress("toy", 100) as advance:
        assert capsys.readouterr().err == "toy: 0 of 100 iterations done\n"
        now[0] = 3.0
        advance(1, None)
        assert "1/100 (1 %)" in (said := capsys.readouterr().err) and "4:57 left" in said
        now[0] = 6.0
        advance(2, None)
        assert capsys.readouterr().err == ""


def test_a_run_speaks_before_it_loads_anything(toy, capsys, monkeypatch):
    monkeypatch.setattr(Toy, "prepare", lambda self: (_ for _ in ()).throw(BadInput("stop")))
    assert launch.guarded(lambda: launch.execute(config())) == 2
    assert capsys.readouterr().err.startswith("seed=0 toy (paper): looking at data, device and store\n")


def test_the_summary_of_a_resumed_run_has_what_was_logged_before(toy, capsys):
    run = writer.open_run(config(rate=0.9))
    run.log(1, {"before": 3.0})
    run.settle("KILLED")
    run.close(10)
    capsys.readouterr()
    assert launch.resume(run.run_id) == 0
    said = capsys.readouterr().out
    assert "before" in said and "walk/position" in said and json.dumps(said).count("seconds") == 0
