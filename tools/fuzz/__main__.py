"""`python -m tools.fuzz TARGET --seconds 60`: coverage-guided fuzzing by atheris; without it, plain mutations.

What a target must not do is written to tests/fuzz/corpus/TARGET/ as fault-HASH, where the plain tests try it again for ever; give it the name of its
story when it is mended. `--grow` keeps there, too, what the search found that reaches further than what is kept (grow.py).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"
SLOW_S = 5  # one input may take so long on a busy machine


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One input near `data`: bits, numbers that parsers fear, pieces of others, repetition, loss."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(out) + 1)
        which = rng.randrange(7)
        if which == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif which == 1:
            out[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        elif which == 2:
            out[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"-1", b"{" * 40)
            )
        elif which == 3:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            out[at:at] = other[begin : begin + rng.randrange(64)]
        elif which == 4:
            del out[at : at + rng.randrange(1, 32)]
        elif which == 5:
            out[at:at] = out[at : at + rng.randrange(1, 64)] * rng.randrange(1, 8)
        else:
            del out[at:]
    return bytes(out)


def plain(name: str, *, rounds: int, seed: int) -> tuple[int, bytes | None]:
    """Mutations of the corpus for so many rounds; (inputs tried, the first one that must not be)."""
    from tools.fuzz.targets import corpus, try_one

    rng = random.Random(f"{name} {seed}")
    others = corpus(name, CORPUS)
    for number, data in enumerate([*others, *(mutated(rng, rng.choice(others), others) for _ in range(rounds))]):
        try:
            try_one(name, data)
        except Exception:
            traceback.print_exc()
            return number, data
    return len(others) + rounds, None


def guided(name: str, seconds: int, folder: Path) -> int:
    """atheris in this process; ends the process by itself. What reached something new lies in `folder` then."""
    import atheris

    if any(module.partition(".")[0] == "nvr" for module in sys.modules):
        raise RuntimeError("nvr is imported already: it would not be instrumented, and nothing would guide the search")
    with atheris.instrument_imports(include=["nvr"]):
        from tools.fuzz.targets import INPUT_BYTES, MEMORY_MB, corpus, try_one
    for number, data in enumerate(corpus(name, CORPUS)):
        Path(folder, str(number)).write_bytes(data)
    arguments = [sys.argv[0], str(folder), f"-max_total_time={seconds}", f"-timeout={SLOW_S}", f"-rss_limit_mb={MEMORY_MB}",
                 f"-max_len={INPUT_BYTES}", "-verbosity=0", "-print_final_stats=1",
                 f"-artifact_prefix={folder}-found-"]  # fmt: skip
    atheris.Setup(arguments, lambda data: try_one(name, data))
    atheris.Fuzz()
    return 0


def keep(name: str, data: bytes) -> Path:
    path = CORPUS / name / f"fault-{hashlib.sha256(data).hexdigest()[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def main() -> int:
    if "--inside" in sys.argv:  # before anything of ours is imported: what is imported already is not instrumented
        target, seconds, folder = sys.argv[1 + sys.argv.index("--inside") :]
        return guided(target, int(seconds), Path(folder))
    from tools.fuzz.grow import grow
    from tools.fuzz.targets import known

    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all of them without one: {', '.join(known())}")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default %(default)s)")
    parser.add_argument("--grow", action="store_true", help="keep what reaches further than what is kept")
    options = parser.parse_args()
    unknown = set(options.targets) - set(known())
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(known())}")
    status = 0
    for name in options.targets or known():
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            reached = Path(folder, "reached")
            reached.mkdir()
            done = subprocess.run(
                [sys.executable, "-m", "tools.fuzz", "--inside", name, str(options.seconds), str(reached)],
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
            if "No module named 'atheris'" in done.stderr:
                tried, found = plain(name, rounds=options.seconds * 500, seed=int(began_s))
                print(
                    f"{name}: {tried} plain mutations{'' if found is None else f', kept {keep(name, found)}'}",
                    flush=True,
                )
                status |= found is not None
                continue
            bad = [path.read_bytes() for path in Path(folder).glob("*-found-*")]
            if options.grow and not bad:
                files, size = grow(name, (path.read_bytes() for path in reached.iterdir()), CORPUS / name)
                print(f"{name}: {files} inputs are kept, {size / 1000:.1f} kB", flush=True)
        runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "?")
        print(f"{name}: {runs} inputs in {time.monotonic() - began_s:.0f} s, guided", flush=True)
        if done.returncode != 0:
            status = 1
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
            for data in bad:
                print(f"  kept {keep(name, data)}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
