"""A server program whose clock can be set: a shim in C before the functions that ask the system for the time.

libfaketime does the same and more, but hangs with the memory allocator of Redis.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

from ..errors import ConfigurationError
from ..redis.embedded import server_binary

#: The offset is in a file that server and stress both map; monotonic clocks are left as they are.
_SOURCE = """\
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset; /* nanoseconds */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TICKETLOCK_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (failed || !offset || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    long long moment = now->tv_sec * 1000000000LL + now->tv_nsec + *offset;
    now->tv_sec = moment / 1000000000LL;
    now->tv_nsec = moment % 1000000000LL;
    return 0;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (into) *into = found.tv_sec;
    return found.tv_sec;
}
"""


class SetClock:
    """Builds the shim in a folder.

    Args:
        program: the server's; None: what is installed.

    Attributes:
        program: runs it with the shim.

    Raises ConfigurationError without a C compiler.
    """

    def __init__(self, folder: Path, program: str | None) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise ConfigurationError(
                "--nemesis clock needs a C compiler, to build a small program that sets the server's clock: "
                "install cc, gcc or clang, or leave clock out"
            )
        source, shim, offset = folder / "clock.c", folder / "clock.so", folder / "offset"
        source.write_text(_SOURCE)
        words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(source)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ConfigurationError(f"--nemesis clock: {compiler} fails: {done.stderr[-500:]}")
        offset.write_bytes(struct.pack("q", 0))
        script = folder / "server"
        script.write_text(
            "#!/bin/sh\n"
            f'LD_PRELOAD="{shim}" TICKETLOCK_CLOCK="{offset}" '
            f'exec "{program or server_binary()}" "$@"\n'
        )
        script.chmod(0o700)
        self.program = str(script)
        with offset.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)

    def step(self, seconds: float) -> None:
        """Set the server's clock by so many seconds off that of the machine."""
        struct.pack_into("q", self._offset, 0, round(seconds * 1e9))
