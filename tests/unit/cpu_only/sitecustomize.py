"""On PYTHONPATH of a test's processes: an onnxruntime that offers the CPU alone, whichever is installed."""

import onnxruntime

onnxruntime.get_available_providers = lambda: ["CPUExecutionProvider"]
