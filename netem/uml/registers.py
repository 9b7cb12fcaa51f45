"""Help for guests on processors with AMX, whose registers are more than a guest's kernel before 6.13 keeps.

The guest's kernel reads and writes the registers of its processes with PTRACE_GETREGSET and SETREGSET into a
buffer of fixed size, up to AVX-512's and the protection keys' (2,696 bytes). A host with AMX has 11,008, cuts
what it gives and refuses what it gets (EFAULT): the guest's first process dies. Linux 6.13 asks for the size.

The shim stands between the guest's kernel and ptrace: it gives the part that fits, says in its header that
there is no more, and hands back the whole with AMX's part in its initial state. No program inside can use AMX
(the guest's kernel does not grant it), so nothing is lost. All other registers are kept, AVX-512 included.
Without it the kernel could be made to fall back to SSE's registers, but then any program that uses AVX is
silently wrong after a page fault: seen with glibc, numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

COMPILER: Final = "cc"

SHIM: Final = """
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, HEADER = 512 };

/* Bits of XSTATE_BV: all up to the protection keys. */
#define KEPT 0x3ffUL

/* Not on the stack, which is the small one of the guest's kernel. One thread calls. */
static unsigned char area[1 << 16] __attribute__((aligned(64)));
static unsigned long size;

static void mask(unsigned char *state)
{
    unsigned long bits;
    memcpy(&bits, state + HEADER, sizeof bits);
    bits &= KEPT;
    memcpy(state + HEADER, &bits, sizeof bits);
}

long ptrace(int request, ...)
{
    va_list rest;
    va_start(rest, request);
    long pid = va_arg(rest, int);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    struct iovec *asked = data;
    if (request == GETREGSET && (unsigned long)address == XSTATE && asked->iov_len >= HEADER + 64) {
        struct iovec whole = {area, sizeof area};
        long result = syscall(SYS_ptrace, request, pid, address, &whole);
        if (result < 0)
            return result;
        size = whole.iov_len;
        if (asked->iov_len > size)
            asked->iov_len = size;
        memcpy(asked->iov_base, area, asked->iov_len);
        mask(asked->iov_base);
        return result;
    }
    if (request == SETREGSET && (unsigned long)address == XSTATE && asked->iov_len < size) {
        struct iovec whole = {area, size};
        memset(area, 0, size);
        memcpy(area, asked->iov_base, asked->iov_len);
        mask(area);
        return syscall(SYS_ptrace, request, pid, address, &whole);
    }
    /* The call answers the three peeks in memory, the function in its result. */
    long word;
    int peek = request > 0 && request < 4;
    long result = syscall(SYS_ptrace, request, pid, address, peek ? &word : data);
    if (result >= 0 && peek) {
        errno = 0;
        return word;
    }
    return result;
}
"""


def wide_registers() -> bool:
    """Whether this processor has AMX."""
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
