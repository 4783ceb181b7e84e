"""Peak memory of a notebook's kernel, written after each of its cells.

`benchmarks/gpu.py` names this file in PYTHONSTARTUP, which a kernel runs when it starts. A cell at the end
of the notebook would say nothing about a notebook that failed or was stopped, and `nvidia-smi` sees a
process only while it is asked; so the kernel itself reports, to the file that SEGCONF_PEAK_FILE names.
"""


def _watch() -> None:
    import json
    import os
    import sys
    from pathlib import Path

    target = os.environ.get("SEGCONF_PEAK_FILE")
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not target or shell is None:
        return

    def resident_mib() -> float:
        try:  # of this program alone; what getrusage says can be its parent's
            lines = Path("/proc/self/status").read_text("utf-8").splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
        except (OSError, StopIteration):
            import resource  # macOS: bytes

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def write(*_: object) -> None:
        found = {"cpu": resident_mib()}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.max_memory_reserved() / 2**20  # what torch took from the card
            found["gpu_needed"] = torch.cuda.max_memory_allocated() / 2**20  # what its tensors filled
        part = Path(f"{target}.part")
        part.write_text(json.dumps(found), "utf-8")
        part.replace(target)

    shell.events.register("post_run_cell", write)


_watch()
del _watch
