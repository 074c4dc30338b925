"""An ext4 in a file, whose store the kernel encrypts by fscrypt where it is given a key.

The image is what a stolen disk is: searching it tells what a thief can read. Needs root, a loop
device and a kernel with fscrypt: `find_missing_program` and `find_obstacle` say what lacks. The
policy is version 2, AES-256-XTS for contents and AES-256-CTS for names, as the program `fscrypt`
sets it too. It is set by ioctl here (linux/fscrypt.h): that needs no package.
"""

import errno
import fcntl
import mmap
import os
import secrets
import shutil
import struct
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

KEY_BYTES = 64
IMAGE_BYTES = 256 * 1024 * 1024
"""Sparse; PostgreSQL with a small database takes some 80 MB of it."""
PROBE_BYTES = 16 * 1024 * 1024
PROGRAMS = ("mkfs.ext4", "mount", "umount")

_SET_POLICY = 0x800C6613  # FS_IOC_SET_ENCRYPTION_POLICY
_ADD_KEY = 0xC0506617  # FS_IOC_ADD_ENCRYPTION_KEY
_REMOVE_KEY = 0xC0406618  # FS_IOC_REMOVE_ENCRYPTION_KEY
_BY_IDENTIFIER = 2
_POLICY_VERSION = 2
_AES_256_XTS = 1
_AES_256_CTS = 4
_NAMES_PADDED_TO_32 = 3
_IDENTIFIER = slice(8, 24)
_REMOVAL_FLAGS_AT = 40

_LACKS_FSCRYPT = {errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOPKG, errno.ENOSYS}


class VolumeError(Exception):
    """A volume could not be made, mounted or locked; the message says why."""


class Volume:
    """One image with its mount. Not for several threads at once."""

    def __init__(
        self, folder: Path, *, key: bytes | None = None, image_bytes: int = IMAGE_BYTES
    ) -> None:
        """Describe it; nothing is made yet.

        folder: where image and mount point are put. key: 64 bytes, or none for a plain store.
        """
        self.image = folder / "volume.img"
        self.mount_point = folder / "volume"
        self._key = key
        self._image_bytes = image_bytes
        self._identifier = b""

    def __enter__(self) -> Self:
        """Make the file system and the store, and mount it; raises VolumeError."""
        self.mount_point.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(self._image_bytes)
        features = ("-O", "encrypt") if self._key else ()
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", *features, str(self.image))
        self.mount()
        try:
            self.store.mkdir()
            if self._key:
                self.unlock(self._key)
                self._set_policy()
        except BaseException:
            self.unmount()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave neither mount nor loop device, whatever happened."""
        self.unmount()

    @property
    def store(self) -> Path:
        """The folder that is encrypted, if there is a key."""
        return self.mount_point / "store"

    def mount(self) -> None:
        """Mount it, through a loop device that goes with the mount."""
        _run("mount", "-o", "loop", str(self.image), str(self.mount_point))

    def unmount(self) -> None:
        """Leave everything in the image, and the kernel without the key."""
        if not self.mount_point.is_mount():
            return
        try:
            _run("umount", str(self.mount_point))
        except VolumeError:
            # Somebody still has a file open: let the mount go with the last of them.
            _run("umount", "--lazy", str(self.mount_point))
            raise

    def unlock(self, key: bytes) -> None:
        """Give the kernel the key of the store, or another one, which then opens nothing."""
        argument = bytearray(
            struct.pack("=II32sII32s", _BY_IDENTIFIER, 0, b"", len(key), 0, b"") + key
        )
        _control(self.mount_point, _ADD_KEY, argument)
        self._identifier = bytes(argument[_IDENTIFIER])

    def lock(self) -> None:
        """Take the key that was given last away again; raises VolumeError where files are open."""
        argument = bytearray(struct.pack("=II32sI20s", _BY_IDENTIFIER, 0, self._identifier, 0, b""))
        _control(self.mount_point, _REMOVE_KEY, argument)
        if flags := struct.unpack_from("=I", argument, _REMOVAL_FLAGS_AT)[0]:
            raise VolumeError(f"The store is still in use (flags {flags}): stop what reads it.")

    def holds(self, text: bytes) -> bool:
        """Whether the bytes stand anywhere in the image; unmount it before."""
        with (
            self.image.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(text) >= 0

    def _set_policy(self) -> None:
        policy = struct.pack(
            "=BBBBB3s16s",
            _POLICY_VERSION,
            _AES_256_XTS,
            _AES_256_CTS,
            _NAMES_PADDED_TO_32,
            0,
            b"",
            self._identifier,
        )
        _control(self.store, _SET_POLICY, bytearray(policy))


def make_volume_key() -> bytes:
    """Return a key of random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def find_missing_program() -> str | None:
    """Return the name of a program that is not installed, if any."""
    return next((each for each in PROGRAMS if shutil.which(each) is None), None)


def find_obstacle() -> str | None:
    """Return why this user or this kernel can mount no encrypted image, if so."""
    if os.geteuid() != 0:
        return "only root can mount an image"
    if not Path("/dev/loop-control").exists():
        return "this kernel has no loop devices"
    with TemporaryDirectory() as folder:
        plain = Volume(Path(folder) / "plain", image_bytes=PROBE_BYTES)
        try:
            with plain:
                pass
        except VolumeError as error:
            return f"no image can be mounted here: {error}"
        sealed = Volume(Path(folder) / "sealed", key=make_volume_key(), image_bytes=PROBE_BYTES)
        try:
            with sealed:
                (sealed.store / "probe").write_bytes(b"probe")
        except VolumeError as error:
            return f"this kernel has no fscrypt for ext4: {error}"
        except OSError as error:
            if error.errno not in _LACKS_FSCRYPT:
                raise
            return f"this kernel has no fscrypt for ext4: {error}"
    return None


def _control(path: Path, request: int, argument: bytearray) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(folder, request, argument)
    finally:
        os.close(folder)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise VolumeError(f"{command[0]} said: {said}")
