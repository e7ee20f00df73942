"""Import Feast without torch.

Feast imports torch, where it is installed, for a conversion to tensors that nothing here uses; a lookup
service would pay seconds of start and hundreds of megabytes for it. The modules of this package import this
one before Feast; a later `import torch` works as ever.
"""

import sys

if not {"torch", "feast"} & sys.modules.keys():
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import feast  # noqa: F401
    finally:
        del sys.modules["torch"]
