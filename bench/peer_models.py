"""The networks of the table in PyTorch: torchvision's where it has them, the others as the files of
lua/moonlet/models/ build them, with the same names of parameters. MODELS maps a name to a function
that builds the network; `load` fills one from a file that moonlet wrote."""
import json

import numpy as np
import torch
import torch.nn as nn
import torchvision.models as vision


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512),
                         nn.ReLU(), nn.Linear(512, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(),
        nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))


def mnist_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(32 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10))


class AlexNet2012(nn.Module):
    """With local response normalisation and groups, as in the paper."""

    def __init__(self, classes=1000, hidden=4096):
        super().__init__()

        def norm():
            return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)

        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(True), norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(True), norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(True),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = alexnet_classifier(classes, hidden)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet_classifier(classes, hidden):
    return nn.Sequential(
        nn.Dropout(), nn.Linear(256 * 36, hidden), nn.ReLU(True),
        nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(True), nn.Linear(hidden, classes))


def alexnet(classes=1000, hidden=4096):
    net = vision.alexnet()
    net.classifier = alexnet_classifier(classes, hidden)
    return net


class UNet(nn.Module):
    """Padded, with batch normalisation."""

    def __init__(self, classes=2, inputs=3, width=64, depth=4):
        super().__init__()
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.first = self.block(inputs, width)
        for level in range(depth):
            channels = width << level
            self.down.append(nn.Sequential(nn.MaxPool2d(2), self.block(channels, 2 * channels)))
        for level in reversed(range(depth)):
            channels = width << level
            self.up.append(nn.ConvTranspose2d(2 * channels, channels, 2, stride=2))
            self.join.append(self.block(2 * channels, channels))
        self.last = nn.Conv2d(width, classes, 1)

    @staticmethod
    def block(inputs, outputs):
        layers = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                       nn.BatchNorm2d(outputs), nn.ReLU(True)]
        return nn.Sequential(*layers)

    def forward(self, x):
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        y = levels.pop()
        for up, join in zip(self.up, self.join):
            y = join(torch.cat([levels.pop(), up(y)], 1))
        return self.last(y)


def googlenet(**options):
    return vision.googlenet(init_weights=False, **{"aux_logits": False, **options})


MODELS = {
    "mlp": mlp, "lenet": lenet, "mnist_cnn": mnist_cnn, "alexnet": alexnet,
    "alexnet2012": AlexNet2012, "vgg16": vision.vgg16, "googlenet": googlenet,
    "resnet18": vision.resnet18, "resnet50": vision.resnet50,
    "densenet121": vision.densenet121, "mobilenet_v2": vision.mobilenet_v2, "unet": UNet,
}


def read_safetensors(path):
    """name -> array: eight bytes of length, a JSON header, the numbers."""
    kinds = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*row["data_offsets"])],
                                kinds[row["dtype"]]).reshape(row["shape"])
            for name, row in header.items()}


def moonlet_name(name):
    """moonlet's name of a parameter: numbers count from 1 there."""
    return ".".join(str(int(part) + 1) if part.isdigit() else part for part in name.split("."))


def load(net, tensors):
    """Copies moonlet's parameters and buffers into the network; every one has to be there."""
    with torch.no_grad():
        for name, target in net.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                target.copy_(torch.from_numpy(tensors[moonlet_name(name)].copy()))
