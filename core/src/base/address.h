/* address.h - what stands in scheme://name?option=value, checked and decoded. */
#ifndef IPCIO_ADDRESS_H
#define IPCIO_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

enum { ADDRESS_NAME_MAX = 255, ADDRESS_PATH_MAX = 4095, ADDRESS_FILE_MAX = 64 };

typedef struct {
    char scheme[16];
    bool path;                      /* scheme:///path: `name` is an absolute path, used as given */
    char *name;                     /* decoded; '/' where '\' stood; allocated */
    const char *options;            /* what follows '?', in the caller's string; "" when nothing does */
    char *text;                     /* the address without options, as messages show it; allocated */
} address;

/* Fills `a` from `text`; address_free undoes it, also after an error.
 * INVALID not an address; UNSUPPORTED a \\HOST or Global\ name; NOMEMORY. */
int address_parse(address *a, const char *text);
void address_free(address *a);

/* The file name that stands for `name` in a directory: percent-encoded, so that nothing in a name can leave
 * it, and hashed when that would be longer than ADDRESS_FILE_MAX - 1. */
void address_file_name(const char *name, char file[ADDRESS_FILE_MAX]);

/* Writes `name` percent-encoded, as an address needs it, into out[size]; false when it does not fit. */
bool address_encode(const char *name, char *out, size_t size);

/* Decodes percent escapes of text[0, n) into out[size] and terminates it.  False when it does not fit, an
 * escape is malformed, or a byte is NUL. */
bool address_decode(const char *text, size_t n, char *out, size_t size);

#endif
