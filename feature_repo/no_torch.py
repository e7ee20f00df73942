"""Import Feast without torch.

Where torch is installed, Feast imports it for a conversion to tensors that this project does not use. It would cost a
lookup service seconds at the start and hundreds of megabytes. The modules of this package import this one before
Feast; a later `import torch` works as usual.
"""

import sys

if not {"torch", "feast"} & sys.modules.keys():
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import feast  # noqa: F401
    finally:
        del sys.modules["torch"]
