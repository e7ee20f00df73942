"""What the examples share: a missing data set skips, and vectors are held against rivals half by half."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
from rich.console import Console

from examples import run
from jobs.evaluate import METHODS, Evaluated
from jobs.releases import folder


def test_a_default_folder_that_is_not_there_skips(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "DATA", tmp_path)
    run.run("nothing", [], tmp_path / "nothing", steps=None, seeds=1)
    assert "skipped: no nothing data" in capsys.readouterr().out


def test_each_half_is_held_against_the_same_half(elsewhere):
    deployment = elsewhere("completejourney")
    aucs = {method: [0.5 + 0.01 * at + 0.003 * half * (-1) ** at for half in range(5)]
            for at, method in enumerate(METHODS)}
    path = folder(deployment) / "evaluations" / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"halves": [{"scenario": "coupon", "method": method, "auc": auc}
                                           for method, halves in aucs.items() for auc in halves]}))
    table = dict.fromkeys(METHODS, 0.6)
    evaluated = Evaluated(as_of=date(2017, 7, 1), release="r", model_version="v", users={"coupon": 9}, left_out={},
                          not_probed={}, tuned={}, auc={"coupon": table}, auc_std={}, ks={"coupon": table}, ks_std={},
                          seconds=1)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(run.paired(deployment, [evaluated]))
    less = np.array(aucs["instructed"]) - np.array(aucs["by hand, LightGBM"])
    row = next(line for line in shown.get().splitlines() if " instructed " in line and "universal" not in line)
    assert f"{less.mean():+.4f} ± {less.std():.4f}" in row
    assert f"{np.mean(aucs['instructed']):.4f} ± {np.std(aucs['instructed']):.4f}" in row


def test_labels_are_in_order_and_timed():
    rows = run.labelled("again", {"b": 1, "a": 0}, date(2011, 9, 10))
    assert rows.user_id.tolist() == ["a", "b"]
    assert rows.label.tolist() == [0, 1]
    assert rows.as_of.dt.strftime("%Y-%m-%d %H:%M %Z").tolist() == ["2011-09-10 00:00 UTC"] * 2
