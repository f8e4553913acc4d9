"""PyTorch beside moonlet: one measurement of bench/networks.lua in a process of its own.

    MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 \\
      python bench/peer_torch.py --workload resnet50 --batch 8 --pass train --form channels_last

Forms: "stock", "channels_last" (memory format of network and input) and "compile" (torch.compile on
top of channels_last, its compilation not counted).
"""
import torch

import peer_measure

IMPORTED = peer_measure.peak_mib()   # before anything but PyTorch is there

import peer_models  # noqa: E402
import peer_passes  # noqa: E402


def compare(net, path):
    """Parameters, and the largest difference of scores as a share of the largest one."""
    stored = peer_models.read_safetensors(path)
    peer_models.load(net, {name[4:]: array for name, array in stored.items()
                           if name.startswith("net.")})
    ours = sum(array.size for name, array in stored.items()
               if name.startswith("net.") and "running_" not in name)
    with torch.no_grad():
        found = net.eval()(torch.from_numpy(stored["x"].copy()))
    expected = torch.from_numpy(stored["scores"].copy())
    peer_measure.report(
        parameters=sum(p.numel() for p in net.parameters()), moonlet_parameters=ours,
        deviation=((found - expected).abs().max() / expected.abs().max()).item())


def main():
    parser = peer_measure.cpu_arguments(__doc__)
    parser.add_argument("--form", choices=("stock", "channels_last", "compile"), default="stock")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    net = peer_models.MODELS[options.workload]()
    if options.check:
        compare(net, options.check)
        return
    x, labels = peer_passes.random_batch(options)
    if options.form != "stock":
        net, x = (value.to(memory_format=torch.channels_last) for value in (net, x))
    if options.form == "compile":
        net = torch.compile(net)
    run = peer_passes.make_pass(net, x, labels, options.step, options.dtype)
    peer_measure.report(
        ms=peer_measure.median_ms(run, options),
        rss_mib=peer_measure.peak_mib(), import_rss_mib=IMPORTED)


if __name__ == "__main__":
    main()
