# Owns tables that stay and as many that do not, by a library with an allocator of its own, and what it counts of them.
# Must not know how it is traced.
import gc
import os
import sys


def tell(line):
    os.write(1, (line + "\n").encode())


def await_line():
    while os.read(0, 1) not in (b"\n", b""):
        pass


def of_pyarrow():
    import pyarrow

    def make(i):
        return pyarrow.array(range(i, i + 50_000), type=pyarrow.int64())

    return make, lambda kept: pyarrow.total_allocated_bytes()


def of_polars():
    import polars

    def make(i):
        numbers = polars.int_range(i, i + 50_000, eager=True).rename("number")
        return polars.DataFrame({"number": numbers, "half": numbers / 2})

    return make, lambda kept: sum(it.estimated_size() for it in kept)


def main():
    make, count = {"pyarrow": of_pyarrow, "polars": of_polars}[sys.argv[1]]()
    # What it makes once, its threads too, is made before anything is traced.
    for i in range(10):
        make(i)
    gc.collect()
    before = count([])
    tell(f"ready {os.getpid()}")
    await_line()
    tables = [make(i) for i in range(80)]
    tables = tables[::2]
    gc.collect()
    tell(f"counted {count(tables) - before}")
    tell("settled")
    await_line()


main()
