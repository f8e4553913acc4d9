"""PyTorch beside moonlet on a GPU: one measurement of bench/gpu.lua in a process of its own.

    python bench/peer_torch_gpu.py --workload resnet50 --batch 64 --pass train --form eager

At its best: channels_last, cudnn.benchmark, autocast for bfloat16, a fused optimiser. "compile" is
torch.compile on top, its compilation not counted. float32 is float32: TF32 stays off on both sides.
"""
import argparse

import torch

import peer_models

ROUNDS = 5


def seconds_of(run, seconds):
    """The median seconds of a call, by the device's clock."""
    def timed(calls):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls

    for _ in range(5):   # cudnn.benchmark and compilation
        run()
    calls = max(1, int(seconds / ROUNDS / max(timed(1), 1e-6)))
    return sorted(timed(calls) for _ in range(ROUNDS))[ROUNDS // 2]


def make_pass(net, x, labels, options):
    half = torch.autocast("cuda", torch.bfloat16, enabled=options.dtype == "bfloat16")
    if options.step == "forward":
        net.eval()

        def forward():
            with torch.no_grad(), half:
                net(x)
        return forward

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def train():
        optimizer.zero_grad()
        with half:
            loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
    return train


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shape", default="3,224,224", help="channels, height, width")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--pixels", action="store_true", help="a label for each pixel")
    parser.add_argument("--pass", dest="step", choices=("forward", "train"), default="forward")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--form", choices=("eager", "compile"), default="eager")
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(1)
    shape = [int(size) for size in options.shape.split(",")]
    net = peer_models.MODELS[options.workload]().cuda().to(memory_format=torch.channels_last)
    x = torch.randn(options.batch, *shape, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(options.classes,
                           (options.batch, *shape[1:]) if options.pixels else (options.batch,),
                           device="cuda")
    if options.form == "compile":
        net = torch.compile(net)
    seconds = seconds_of(make_pass(net, x, labels, options), options.seconds)
    print(f"images_s {options.batch / seconds:.10g}")
    print(f"peak_mib {torch.cuda.max_memory_allocated() / 2 ** 20:.10g}")


if __name__ == "__main__":
    main()
