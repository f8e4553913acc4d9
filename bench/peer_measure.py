"""What the peers' scripts share: the median of a pass, the resident size, the command line."""
import argparse
import time

LEAST, MOST = 3, 200     # passes measured, as in bench/parts/clocks.lua


def peak_mib():
    """The most memory that this process ever held."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024


def median_ms(run, options):
    """By the machine's clock, or by the processor time of all threads divided by their number."""
    clock, share = ((time.process_time, options.threads) if options.clock == "cpu" else
                    (time.perf_counter, 1))
    run()
    run()
    times, began = [], time.perf_counter()
    while len(times) < LEAST or (len(times) < MOST
                                 and time.perf_counter() - began <= options.seconds):
        before = clock()
        run()
        times.append((clock() - before) / share * 1e3)
    return sorted(times)[(len(times) - 1) // 2]


def arguments(text):
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shape", default="3,224,224", help="channels, height, width")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--pixels", action="store_true", help="a label for each pixel")
    parser.add_argument("--seconds", type=float, default=2.0)
    return parser


def cpu_arguments(text):
    parser = arguments(text)
    parser.add_argument("--pass", dest="step", choices=("forward", "train"), default="forward")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--check", help="compare with what moonlet wrote, and measure nothing")
    return parser


def report(**values):
    for name, value in values.items():
        print(name, f"{value:.10g}", flush=True)
