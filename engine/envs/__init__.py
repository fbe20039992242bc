"""Generated worlds and their simulators as Gymnasium environments.

Importing this package registers them, as ``Loci/Doom-v0`` and so on, see `engine.envs.registration`.
"""

from engine.envs.registration import register_worlds

register_worlds()
