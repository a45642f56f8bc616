import json
import subprocess
import sys
import warnings

from conftest import ENVIRONMENT, ROOT

from training import runlog
from training.runlog import RunLog, plot_losses, read_metrics

METRICS = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "val_loss": 2.5, "bits_per_char": 4.0}]


def test_plot_of_a_run_with_a_chinese_name_draws_no_missing_glyphs(tmp_path, monkeypatch):
    """Without a Chinese font the name is left out: matplotlib would warn and draw boxes."""
    monkeypatch.setattr(runlog, "CHINESE_FONTS", ())
    folder = tmp_path / "我的书"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_losses(METRICS, folder / "loss.png")
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_plot_leaves_out_steps_whose_loss_was_not_finite(tmp_path):
    plot_losses([{"step": 0, "loss": None}, *METRICS], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").exists()


def test_plot_takes_a_name_as_it_is(tmp_path):
    (tmp_path / "a$1_$b").mkdir()
    plot_losses(METRICS, tmp_path / "a$1_$b/loss.png")  # no formula of matplotlib's
    assert (tmp_path / "a$1_$b/loss.png").exists()


def test_run_log_goes_on_when_the_reader_of_its_output_has_exited(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path; from training.runlog import RunLog\n"
    code += (
        "log = RunLog(Path(sys.argv[2])); sys.stdin.read(); log.info('a'); log.status('b'); log.close()\nsys.exit(7)"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.close()
    process.stdin.close()
    assert process.wait() == 7
    assert (tmp_path / "log.txt").read_text().splitlines()[-2:] == ["a", "b"]


def test_progress_line_fits_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    log = RunLog(tmp_path)
    log.status("0123456789" * 5)
    log.status("done")
    log.close()
    assert capsys.readouterr().out.startswith("0123456789012345678\r" + " " * 19 + "\rdone")
    assert "0123456789" * 5 in (tmp_path / "log.txt").read_text()


def test_run_log_resumed_drops_metrics_after_the_first_step(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.log_metrics(step, loss=float(step))
    log.close()
    RunLog(tmp_path, first_step=2).close()
    assert [m["step"] for m in read_metrics(tmp_path)] == [1, 2]


def test_run_log_writes_null_for_numbers_that_json_lacks(tmp_path):
    log = RunLog(tmp_path)
    log.log_metrics(1, loss=float("nan"))
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": None}


def test_read_metrics_leaves_out_a_last_line_that_was_cut(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 1}]
