/* status.c - the table of statuses and the calling thread's last error. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/os.h"

static _Thread_local struct {
    int system;
    char text[1024];
} last;

const char *ipcio_code(int status)
{
    switch (status) {
    case IPCIO_OK: return "ok";
#define X(name, number, code, class_, base, meaning)                                                           \
    case IPCIO_##name: return code;
        IPCIO_STATUS_MAP(X)
#undef X
    default: return "unknown";
    }
}

const char *ipcio_message(void)
{
    return last.text;
}

int ipcio_system_error(void)
{
    return last.system;
}

/* A path may be longer than the text has room for: then what is left out is some of the middle, not the reason at its end. */
static void keep(int system, const char *format, va_list args)
{
    static const char left_out[] = " ... ";
    enum { FRONT = sizeof last.text / 2 };
    char text[1 << 14]; /* an address: each byte of a path may take three */
    int n = vsnprintf(text, sizeof text, format, args);
    if (system && n >= 0 && (size_t)n < sizeof text)
        (void)snprintf(text + n, sizeof text - (size_t)n, ": %s", os_error_text(system));
    size_t length = strlen(text), back = sizeof last.text - FRONT - sizeof left_out;
    last.system = system;
    if (length < sizeof last.text) memcpy(last.text, text, length + 1);
    else (void)snprintf(last.text, sizeof last.text, "%.*s%s%s", FRONT, text, left_out, text + length - back);
}

int ipcio__fail(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(0, format, args);
    va_end(args);
    return status;
}

int ipcio__fail_os(int status, const char *format, ...)
{
    int system = os_error();
    va_list args;
    va_start(args, format);
    keep(system, format, args);
    va_end(args);
    return status;
}
