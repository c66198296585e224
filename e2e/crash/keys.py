"""Public keys that nobody has, by the thousand."""

import base64
import hashlib

# The curve's field and constant (RFC 8032, section 5.1).
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


def public_key(random):
    """A fresh ED25519 key in OpenSSH's form, and its fingerprint as sshd writes it."""
    y = random.randrange(_P)
    while not _is_on_the_curve(y):
        y = random.randrange(_P)
    point = y | random.getrandbits(1) << 255
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point.to_bytes(32, "little")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return "ssh-ed25519 " + base64.b64encode(blob).decode(), f"SHA256:{digest}"


def _is_on_the_curve(y):
    """Whether there is an x with x^2 = (y^2 - 1) / (d y^2 + 1)."""
    square = (y * y - 1) * (_D * y * y + 1) % _P
    return pow(square, (_P - 1) // 2, _P) == 1
