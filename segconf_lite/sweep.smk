# The runs behind `segconf sweep`, see segconf_lite/grid.py: one job = one notebook at one setting.
# A finished table is never made again (delete it to repeat it), so a call after an interruption goes on.

import sys

SEGCONF = [sys.executable, "-m", "segconf_lite.cli", "run"]
RUNS = config["runs"]  # name of a run -> its arguments


rule all:
    input:
        [f"{name}.csv" for name in RUNS],


rule cases:
    output:
        table="{name}.csv",
    log:
        text="{name}.log",
        notebook="{name}.ipynb",
    params:
        given=lambda wildcards: [config["notebook"], *RUNS[wildcards.name]],
    threads: 1
    shell:
        "{SEGCONF:q} {params.given:q} -p cases_out {output.table:q} --out {log.notebook:q} > {log.text:q} 2>&1"
