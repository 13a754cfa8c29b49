"""A file system that shows a folder and answers late.

    slow_folder.py FOLDER MOUNTED SECONDS

Each operation takes up to so many SECONDS, by chance.  While FOLDER.stalled is there, none is answered, and FOLDER.asked
tells that there was one."""
import os
import pathlib
import random
import sys
import time

import mfusepy

ATTRIBUTES = "st_mode st_nlink st_uid st_gid st_size st_ino st_blocks".split()
TIMES = "st_atime st_mtime st_ctime".split()


class SlowFolder(mfusepy.Operations):
    use_ns = True

    def __init__(self, folder, seconds):
        self.folder, self.seconds = folder, seconds

    def late(self, path):
        """Where it is, after a while."""
        time.sleep(random.uniform(0, self.seconds))
        while os.path.exists(self.folder + ".stalled"):
            pathlib.Path(self.folder + ".asked").touch()
            time.sleep(0.01)
        return self.folder + path

    def getattr(self, path, fh=None):
        found = os.lstat(self.late(path))
        return {name: getattr(found, name) for name in ATTRIBUTES} | {name: getattr(found, name + "_ns") for name in TIMES}

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self.late(path))]

    def mkdir(self, path, mode):
        os.mkdir(self.late(path), mode)

    def rmdir(self, path):
        os.rmdir(self.late(path))

    def unlink(self, path):
        os.unlink(self.late(path))

    def rename(self, old, new):
        os.rename(self.folder + old, self.late(new))

    def chmod(self, path, mode):
        os.chmod(self.late(path), mode)

    def mknod(self, path, mode, dev):
        os.mknod(self.late(path), mode, dev)

    def create(self, path, mode, fi=None):
        return os.open(self.late(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path, flags):
        return os.open(self.late(path), flags)

    def read(self, path, size, offset, fh):
        self.late(path)
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        self.late(path)
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(self.late(path), length)

    def utimens(self, path, times=None):
        os.utime(self.late(path))  # nobody here sets another time than now

    def fsync(self, path, datasync, fh):
        self.late(path)
        os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    mfusepy.FUSE(SlowFolder(sys.argv[1], float(sys.argv[3])), sys.argv[2], foreground=True, hard_remove=True,
                 attr_timeout=0, entry_timeout=0, negative_timeout=0)
