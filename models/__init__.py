"""Machine-learned classifiers: manifests, the ONNX runtime, and one small class per kind of input.

Nothing here imports `moderation`, `api` or `training`; torch is never needed to serve.
"""
