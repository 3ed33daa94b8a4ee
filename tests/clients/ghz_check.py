"""Fails unless a ghz run made the number of calls of its configuration, and each returned OK."""

import json
import sys

config_path, run_path = sys.argv[1:]
with open(config_path, encoding="utf-8") as file:
    config = json.load(file)
with open(run_path, encoding="utf-8") as file:
    run = json.load(file)

codes = run["statusCodeDistribution"]
if codes != {"OK": config["total"]} or run["count"] != config["total"]:
    sys.exit(f"FAILED: {run['count']} calls, {codes}, {run['errorDistribution']}; expected {config['total']} with OK")
percentiles = {entry["percentage"]: entry["latency"] / 1e6 for entry in run["latencyDistribution"]}
print(
    f"{run['count']} calls, all OK; {config['connections']} connections, {config['concurrency']} workers; "
    f"{run['rps']:.0f} calls/s, median {percentiles[50]:.2f} ms, p99 {percentiles[99]:.2f} ms"
)
