"""Videos per second of the release in PyTorch, as the tests build it, on random weights: gpu_twin.py MODEL BATCH."""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "checkpoint"))
import torch_release as r

name, count = sys.argv[1], int(sys.argv[2])
if name == "uni_adafocus":
    model = r.PooledExits(r.Sizes(16, 48, 16, 200), r.MobileNetV2(classifier=True), r.ResNet(classifier=True))
else:
    model = r.TwoHeadsTSM(r.Sizes(8, 24, 8, 174, 96), r.MobileNetV2(shift=8), r.ResNet(shift=8))
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_default_device(device)
model = model.eval().to(device)
sizes = model.sizes
frames = [torch.randn(count, n, 3, 224, 224, device=device) for n in (sizes.candidates, sizes.glance)]
inputs = frames if model.one_box else frames[:1]
for dtype in (torch.float32, torch.bfloat16):
    with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
        times = []
        for _ in range(8):
            if device == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            model(*inputs)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
    rate = count / sorted(times[2:])[len(times[2:]) // 2]
    print(f"pytorch {torch.__version__} eager {name} {dtype} batch {count}: {rate:.4g} videos/s", flush=True)
