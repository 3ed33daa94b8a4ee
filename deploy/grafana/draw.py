#!/usr/bin/env python3
"""Draws docs/images/dashboard.png: the panels of cable.json with the data of a real node, without Grafana.

It starts a node on a new store, Prometheus, and a short load; evaluates each query of the dashboard by Prometheus; and
draws each panel with its title and unit. Needs the programs cable and prometheus, and matplotlib:

    python3 -m venv venv && venv/bin/pip install matplotlib==3.10.8
    venv/bin/python deploy/grafana/draw.py --cable target/release/cable --prometheus /usr/bin/prometheus
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRPC, OPS, PROMETHEUS = "127.0.0.1:27190", "127.0.0.1:27191", "127.0.0.1:27192"
SCRAPE_SECONDS = 5
# Grafana's default is four scrape intervals.
RATE_INTERVAL = f"{4 * SCRAPE_SECONDS}s"
UNITS = {"s": "seconds", "reqps": "per second", "Bps": "bytes per second", "bytes": "bytes", "percentunit": "share"}
MAX_LINES = 6


def configuration(directory):
    path = directory / "prometheus.yml"
    path.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
        f"scrape_configs: [{{job_name: cable, static_configs: [{{targets: ['{OPS}']}}]}}]\n"
    )
    return path


def start(directory, name, *command, **settings):
    log = (directory / f"{name}.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, env={**os.environ, **settings})


def wait_until_ready():
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://{OPS}/readyz"):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the node is not ready")


def load(cable, directory, seconds):
    """Reads, lists, follows, publishes, fails, backs up and, for a short time, calls more often than a node can serve."""
    endpoint = ["--endpoint", f"http://{GRPC}"]
    running = []

    def run(*line):
        return subprocess.run([cable, *line, *endpoint], cwd=directory, capture_output=True)

    def bench(*line):
        running.append(start(directory, f"bench{len(running)}", cable, "bench", *line, *endpoint))

    imported = run("import", "jsonl", str(ROOT / "demo/newsroom.jsonl"))
    if imported.returncode:
        raise SystemExit(imported.stderr.decode())
    # The increase of a counter is known from its second value on.
    run("backup", "--to", "first.cable")
    get = ["get", "--rate", "100", "--duration", f"{seconds // 3}s"]
    burst = ["get", "--rate", "20000", "--in-flight", "4000", "--connections", "40", "--duration", f"{seconds // 12}s"]
    bench(*get)
    bench("list", "--rate", "20", "--duration", f"{seconds}s")
    bench("watch", "--followers", "20", "--publish", str(seconds // 2), "--rate", "1")
    end = time.monotonic() + seconds
    has_backup = False
    while time.monotonic() < end:
        run("article", "get", "does-not-exist")
        if not has_backup and time.monotonic() > end - seconds / 2:
            has_backup = run("backup", "--to", "newsroom.cable").returncode == 0
            bench(*get)
            bench(*burst)
        time.sleep(3)
    for process in running:
        process.terminate()
        process.wait()


def query(expression, begin, end, step):
    fields = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": step})
    with urllib.request.urlopen(f"http://{PROMETHEUS}/api/v1/query_range?{fields}") as response:
        return json.load(response)["data"]["result"]


def label(template, metric):
    for name, value in metric.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def series(panel, begin, end):
    """Returns the label, times and values of each line of a panel."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".*")
        for found in query(expression, begin, end, SCRAPE_SECONDS):
            points = [(float(at), float(value)) for at, value in found["values"]]
            points = [(at - begin, value) for at, value in points if value == value]
            if points:
                yield label(target.get("legendFormat", ""), found["metric"]), *zip(*points)


def draw_stat(axes, lines):
    """Draws the last value of each line, as a panel of the type stat does."""
    axes.axis("off")
    text = "\n".join(f"{name}: {values[-1]:.4g}" for name, _, values in lines)
    axes.text(0.5, 0.45, text or "no data", ha="center", va="center", fontsize=7)


def draw_lines(axes, lines):
    """Draws the highest lines. Those that are always zero are left out if others are not."""
    highest = sorted(lines, key=lambda line: -max(line[2]))[:MAX_LINES]
    lines = [line for line in highest if max(line[2]) > 0] or highest
    for name, times, values in lines:
        axes.plot(times, values, label=name, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=5)
    axes.grid(linewidth=0.2)
    if lines:
        axes.legend(fontsize=4.5, loc="upper left", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", fontsize=7)


def draw(panels, begin, end, to):
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(12, rows * 0.28))
    for panel in panels:
        place = panel["gridPos"]
        height = place["h"] / rows
        left, bottom = place["x"] / 24, 1 - place["y"] / rows - height
        if panel["type"] == "row":
            figure.text(0.005, bottom + height / 4, panel["title"], fontsize=9, weight="bold")
            continue
        width = place["w"] / 24
        axes = figure.add_axes((left + 0.03, bottom + height * 0.14, width - 0.04, height * 0.66))
        unit = UNITS.get(panel["fieldConfig"]["defaults"].get("unit"), "")
        axes.set_title(panel["title"] + (f" ({unit})" if unit else ""), fontsize=7, loc="left")
        lines = list(series(panel, begin, end))
        (draw_stat if panel["type"] == "stat" else draw_lines)(axes, lines)
    figure.savefig(to, dpi=80)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cable", required=True)
    arguments.add_argument("--prometheus", default="prometheus")
    arguments.add_argument("--seconds", type=int, default=300)
    arguments.add_argument("--to", default=ROOT / "docs/images/dashboard.png")
    given = arguments.parse_args()
    cable = str(pathlib.Path(given.cable).resolve())
    panels = json.loads((ROOT / "deploy/grafana/cable.json").read_text())["panels"]
    with tempfile.TemporaryDirectory() as scratch:
        directory = pathlib.Path(scratch)
        serve = ["serve", "--data", "store", "--listen", GRPC, "--ops-listen", OPS]
        # A low limit, so that a load that one machine can generate shows refusals.
        settings = {"CABLE__OVERLOAD__MAX_DELAY": "1ms", "CABLE__CACHE__MAX_BYTES": "1MiB"}
        processes = [start(directory, "serve", cable, *serve, **settings)]
        try:
            wait_until_ready()
            config = ["--config.file", str(configuration(directory)), "--storage.tsdb.path", str(directory / "tsdb")]
            processes.append(start(directory, "prometheus", given.prometheus, *config, f"--web.listen-address={PROMETHEUS}"))
            begin = time.time()
            load(cable, directory, given.seconds)
            draw(panels, begin, time.time(), given.to)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
