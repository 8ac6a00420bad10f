"""Who may see what was hidden: keys, sealed regions, the log of what was opened. No ROS, no torch.

The camera has public keys only, and seals the pixels that were painted over (:class:`Sealer`); a
key holder opens them (:class:`Opener`). For a key holder the images are pseudonymous, not
anonymous.
"""

from roi_anon_ros.seal.errors import SealError
from roi_anon_ros.seal.opener import Opened, Opener
from roi_anon_ros.seal.sealer import Sealer, send_both

__all__ = ["Opened", "Opener", "SealError", "Sealer", "send_both"]
