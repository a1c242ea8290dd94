"""resources.py - what each kernel takes on each architecture: the rows of bench/resources.csv, and what is a loss."""
import csv
import json
import pathlib
import re
import shlex
import subprocess
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor

import cubin
import loops

ARCHITECTURES = (80, 90, 100)
KEYS = ("source", "kernel", "architecture")
COUNTS = ("fma", "tensor", "float", "integer", "mufu", "shared_loads", "global_loads")
COLUMNS = (*KEYS, "threads", "registers", "shared", "stack", "spills", "local", "occupancy", "loop", *COUNTS, "fma_share")


class Failure(Exception):
    pass


def compile_commands(build):
    """Kernel file -> the options that the build gives nvcc, less architectures, input and output."""
    path = pathlib.Path(build) / "compile_commands.json"
    if not path.exists():
        raise Failure(f"{path} is not there: configure first, by cmake --preset default")
    found = {}
    for entry in json.loads(path.read_text()):
        words = shlex.split(entry["command"])
        if not any(pathlib.Path(w).name == "nvcc" for w in words[:2]) or not entry["file"].endswith("_cuda.cu"):
            continue  # what calls CUB has its kernels
        if "-ptx" in words:
            continue  # the tests' PTX of the same file
        kept, rest = [], iter(words)
        for word in rest:
            if word in ("-c", "-o", "-x", "-MF", "-MT"):
                next(rest)
            elif not (word.startswith("--generate-code") or word.endswith("ccache") or word == "-MD"):
                kept.append(word)
        found[entry["file"]] = kept
    if not found:
        raise Failure(f"{path} has no CUDA files: the build was configured without nvcc")
    return found


REPORT = re.compile(r"Function properties for (\S+)\s*\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, "
                    r"(\d+) bytes spill loads\s*\n.*?Used (\d+) registers([^\n]*)")


def compile_kernels(file, command, architecture, folder):
    """The kernels of one file for one architecture, each with what ptxas reports."""
    out = pathlib.Path(folder) / f"{pathlib.Path(file).stem}.{architecture}.cubin"
    done = subprocess.run([*command, "-cubin", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-x", "cu", file, "-o", out],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{file}, sm_{architecture}:\n{done.stderr}")
    report = {}
    for symbol, stack, stores, reads, registers, rest in REPORT.findall(done.stderr):
        shared = re.search(r"(\d+) bytes smem", rest)
        report[symbol] = {"registers": int(registers), "shared": int(shared[1]) if shared else 0, "stack": int(stack),
                          "spills": int(stores) + int(reads)}
    return [(kernel, report[kernel.symbol]) for kernel in cubin.read(out)[1] if kernel.symbol in report]


def row_of(file, architecture, kernel, report):
    if not kernel.threads:
        raise Failure(f"{file}: {kernel.name} has no __launch_bounds__, so its occupancy is not known")
    hot = loops.hot_loop(kernel)
    row = {"source": pathlib.Path(file).stem.removesuffix("_cuda"), "kernel": kernel.name, "architecture": architecture,
           "threads": kernel.threads, **report, "local": sum(i.kind == cubin.LOCAL for i in kernel.instructions),
           "loop": hot.instructions if hot else 0}
    for kind in COUNTS:
        row[kind] = hot.counts[kind] if hot else 0
    row["fma_share"] = round(hot.fma_share(), 4) if hot else 0.0
    return row


def add_occupancy(rows, hot, cuda_include, folder):
    """By cuda_occupancy.h, compiled for the host."""
    program = pathlib.Path(folder) / "occupancy"
    source = pathlib.Path(__file__).with_name("occupancy.cpp")
    subprocess.run(["c++", "-std=c++20", "-isystem", cuda_include, source, "-o", program], check=True)
    lines = [f"{r['architecture']} {r['threads']} {r['registers']} {r['shared']} {entry(hot, r).get('dynamic_shared', 0)}"
             for r in rows]
    out = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True).stdout.split()
    for row, share in zip(rows, out, strict=True):
        row["occupancy"] = float(share)


def entry(hot, row):
    """What bench/kernels/hot.toml says of a row's kernel; of an instance by its full name before its template."""
    kernels = hot.get(row["source"], {})
    return kernels.get(row["kernel"].split("<")[0], {}) | kernels.get(row["kernel"], {})


def read_hot(path):
    return tomllib.loads(pathlib.Path(path).read_text())


def measure(commands, hot, jobs):
    """Rows for all kernels, in order."""
    nvcc = next(iter(commands.values()))[0]
    include = pathlib.Path(nvcc).resolve().parent.parent / "include"
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        made = [(file, architecture, pool.submit(compile_kernels, file, command, architecture, folder))
                for file, command in sorted(commands.items()) for architecture in ARCHITECTURES]
        rows = [row_of(file, architecture, kernel, report)
                for file, architecture, kernels in made for kernel, report in kernels.result()]
        add_occupancy(rows, hot, include, folder)
    return sorted(rows, key=lambda r: tuple(r[k] for k in KEYS))


def read_table(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column in COLUMNS[2:]:
            row[column] = float(row[column]) if column in ("occupancy", "fma_share") else int(row[column])
    return rows


def write_table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def short_of_bars(row, bars):
    """What a kernel must hold, whatever it was before."""
    if row["spills"]:
        yield f"spills {row['spills']} bytes"
    if row["fma_share"] < bars.get("fma_share", 0):
        yield f"{row['fma_share']:.0%} of the hot loop's arithmetic are FMAs, at least {bars['fma_share']:.0%} is expected"
    multiply_adds = row["fma"] + row["tensor"]
    if "shared_loads" in bars and row["shared_loads"] >= bars["shared_loads"] * multiply_adds:
        yield (f"{row['shared_loads']} shared loads for {multiply_adds} FMAs in the hot loop, "
               f"fewer than {bars['shared_loads']} for each is expected")


def worse(row, before):
    """What a kernel had and lost."""
    if row["occupancy"] < before["occupancy"]:
        yield (f"occupancy {row['occupancy']:.1%}, was {before['occupancy']:.1%} "
               f"({row['registers']} registers, were {before['registers']})")
    for column, name in (("local", "instructions on local memory"), ("stack", "bytes of stack")):
        if row[column] > before[column]:
            yield f"{row[column]} {name}, were {before[column]}"


def losses(rows, table, hot):
    """Lines that say what is worse than the table, or below the bars of hot.toml; none: all is well."""
    known = {tuple(r[k] for k in KEYS): r for r in table}
    found = []
    for row in rows:
        key = tuple(row[k] for k in KEYS)
        name = f"{row['source']}: {row['kernel']} on sm_{row['architecture']}"
        before = known.pop(key, None)
        found += [f"{name}: {what}" for what in short_of_bars(row, entry(hot, row))]
        if before is None:
            found.append(f"{name}: not in the table")
        else:
            found += [f"{name}: {what}" for what in worse(row, before)]
    found += [f"{source}: {kernel} on sm_{architecture}: in the table, but there is no such kernel"
              for source, kernel, architecture in known]
    names = {(r["source"], name) for r in rows for name in (r["kernel"], r["kernel"].split("<")[0])}
    found += [f"hot.toml: {source}.{kernel} is not the name of a kernel"
              for source, kernels in hot.items() for kernel in kernels if (source, kernel) not in names]
    return found
