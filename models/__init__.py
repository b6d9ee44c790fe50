"""Machine-learned classifiers: manifests, the ONNX runtime, and one small class per kind of input.

Nothing here imports `moderation`, `api` or `training`; torch is never needed to serve.
"""

import os

# onnxruntime reports its use to its maker unless this is set before it is loaded. Nobody who runs a
# moderation service has agreed to that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
