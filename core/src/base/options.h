/* options.h - the options of an address, each with its range, from one table. */
#ifndef IPCIO_OPTIONS_H
#define IPCIO_OPTIONS_H

#include <stdint.h>

typedef struct {
    uint32_t limit;  /* longest message this side takes and sends, in bytes */
    uint32_t buffer; /* bytes to read ahead */
} options;

/* Sets the defaults, then what `first` and after it `second` say ("limit=1000&buffer=4096", NULL or "" for
 * nothing).  `text` is the address for messages.  INVALID for an unknown option or a bad value. */
int options_parse(options *o, const char *text, const char *first, const char *second);

#endif
