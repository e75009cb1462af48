"""What the parts say of their work: logs, metrics, traces."""

import os

# An empty variable is one that is not set, as everywhere here. prometheus_client would take it for a folder,
# and looks at it once, when it is imported.
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR", "x").strip():
    del os.environ["PROMETHEUS_MULTIPROC_DIR"]
