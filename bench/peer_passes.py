"""What is measured of a network of PyTorch's: its forward pass, or a training step."""
import torch


def random_batch(options, **where):
    shape = [int(size) for size in options.shape.split(",")]
    places = (options.batch, *shape[1:]) if options.pixels else (options.batch,)
    return (torch.randn(options.batch, *shape, **where),
            torch.randint(options.classes, places, **where))


def make_pass(net, x, labels, step, dtype):
    """A function that makes one pass; on a GPU with the fused optimiser."""
    half = torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16")
    if step == "forward":
        net.eval()

        def forward():
            with torch.no_grad(), half:
                net(x)
        return forward

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=x.is_cuda)

    def train():
        optimizer.zero_grad()
        with half:
            loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
    return train
