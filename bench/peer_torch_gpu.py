"""PyTorch beside moonlet on a GPU: measurements of bench/gpu.lua in a process of their own.

    python bench/peer_torch_gpu.py --workload resnet50 --batch 64 --passes train --form eager

At its best: channels_last, cudnn.benchmark, autocast for bfloat16, a fused optimiser. "compile" is
torch.compile on top, its compilation not counted. "float32" is float32: TF32 is on in "tf32" only,
on both sides. `pieces` are what bench/parts/measure_gpu.lua says.
"""
import torch

import peer_measure
import peer_models
import peer_passes

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


def pieces(seconds):
    logits = torch.randn(4096, 32768, device="cuda", requires_grad=True)
    labels = torch.randint(32768, (4096,), device="cuda")

    def cross_entropy():
        logits.grad = None
        torch.nn.functional.cross_entropy(logits, labels).backward()

    peer_measure.report(cross_entropy=1 / seconds_of(cross_entropy, seconds))
    allow_tf32(False)
    layer = torch.nn.LSTM(512, 512).cuda()
    steps = torch.randn(128, 64, 512, device="cuda")

    def lstm():
        layer.zero_grad()
        layer(steps)[0].sum().backward()

    peer_measure.report(lstm=1 / seconds_of(lstm, seconds))
    parameters = list(peer_models.MODELS["resnet50"]().cuda().parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    for name, optimizer in (
            ("sgd", torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)),
            ("adamw", torch.optim.AdamW(parameters, lr=1e-3, fused=True))):
        peer_measure.report(**{name: 1 / seconds_of(optimizer.step, seconds)})


def allow_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def network(options):
    last = torch.channels_last
    net = peer_models.MODELS[options.workload]().cuda().to(memory_format=last)
    x, labels = peer_passes.random_batch(options, device="cuda")
    x = x.to(memory_format=last)
    if options.form == "compile":
        net = torch.compile(net)
    for step in options.passes.split(","):
        for dtype in options.dtypes.split(","):
            allow_tf32(dtype == "tf32")
            run = peer_passes.make_pass(net, x, labels, step, dtype)
            rate = options.batch / seconds_of(run, options.seconds)
            peer_measure.report(**{f"{step}_{dtype}": rate})


def main():
    parser = peer_measure.arguments(__doc__)
    parser.add_argument("--passes", default="forward,train")
    parser.add_argument("--dtypes", default="float32,tf32,bfloat16")
    parser.add_argument("--form", choices=("eager", "compile"), default="eager")
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    allow_tf32(False)
    if options.workload == "pieces":
        pieces(options.seconds)
    else:
        network(options)
    peer_measure.report(peak_mib=torch.cuda.max_memory_allocated() / 2 ** 20)


if __name__ == "__main__":
    main()
