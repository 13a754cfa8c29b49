/* memory.c - the memory of another process, read by number and address. */
#include <inttypes.h>

#include "base/status.h"
#include "os/os.h"

int ipcio_memory_export(const void *data, int64_t *pid, uint64_t *address)
{
    os_process_open();
    *pid = os_process();
    *address = (uintptr_t)data;
    return 0;
}

int ipcio_memory_read(int64_t pid, uint64_t address, void *to, size_t n, size_t *got)
{
    *got = 0;
    if (pid <= 0) return ipcio__fail(IPCIO_INVALID, "%" PRId64 " is not the number of a process", pid);
    if (n > 0 && !to)
        return ipcio__fail(IPCIO_NOMEMORY, "process %" PRId64 ": no memory for the %zu bytes to be read", pid, n);
    int st = os_process_read(pid, address, to, n, got);
    if (st == 0) return 0;
    if (st == IPCIO_INVALID && *got > 0)
        return ipcio__fail_os(IPCIO_TOOBIG, "process %" PRId64 ": at 0x%" PRIx64 " only %zu of %zu bytes can be read",
                              pid, address, *got, n);
    if (st == IPCIO_INVALID)
        return ipcio__fail_os(st, "process %" PRId64 ": nothing can be read at 0x%" PRIx64, pid, address);
    return ipcio__fail_os(st, "process %" PRId64 ": its memory cannot be read%s", pid,
                          st != IPCIO_DENIED ? "" : "; that needs the same user, and that the process exports memory, "
                                                    "or the right to trace it");
}
