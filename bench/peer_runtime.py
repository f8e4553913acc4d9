"""ONNX Runtime and OpenVINO beside moonlet: one measurement of bench/networks.lua in a process of
its own. With --check FILE the network is exported out of PyTorch with the weights that moonlet
wrote there, to the file --model names, and the engine's scores are compared with moonlet's; without
it that model is timed.

    python bench/peer_runtime.py --engine openvino --workload resnet50 --model resnet50.onnx
"""
import numpy as np

import peer_measure


def open_onnxruntime(path, options):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    imported = peer_measure.peak_mib()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0], imported


def open_openvino(path, options):
    import openvino

    core = openvino.Core()
    precision = {"float32": "f32", "bfloat16": "bf16"}[options.dtype]
    imported = peer_measure.peak_mib()
    model = core.compile_model(path, "CPU", {
        "INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision})
    request = model.create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0], imported


ENGINES = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}


def export(options):
    """Writes the model; gives the input and the scores that moonlet found for it."""
    import torch

    import peer_models

    stored = peer_models.read_safetensors(options.check)
    net = peer_models.MODELS[options.workload]().eval()
    peer_models.load(net, {name[4:]: array for name, array in stored.items()
                           if name.startswith("net.")})
    torch.onnx.export(net, (torch.from_numpy(stored["x"].copy()),), options.model, dynamo=True,
                      external_data=False, verbose=False)
    return stored["x"], stored["scores"]


def main():
    parser = peer_measure.cpu_arguments(__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    if options.check:
        x, expected = export(options)
        run, _ = ENGINES[options.engine](options.model, options)
        peer_measure.report(deviation=np.abs(run(x) - expected).max() / np.abs(expected).max())
        return
    shape = [int(size) for size in options.shape.split(",")]
    x = np.random.default_rng(1).standard_normal((options.batch, *shape), dtype=np.float32)
    run, imported = ENGINES[options.engine](options.model, options)
    peer_measure.report(ms=peer_measure.median_ms(lambda: run(x), options),
                        rss_mib=peer_measure.peak_mib(), import_rss_mib=imported)


if __name__ == "__main__":
    main()
