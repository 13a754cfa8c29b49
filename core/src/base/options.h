/* options.h - the options of an address, each with its range, from one table. */
#ifndef IPCIO_OPTIONS_H
#define IPCIO_OPTIONS_H

#include <stdint.h>

#include "base/address.h"

enum { OPTION_TEXT = 16 }; /* bytes of one that is a text, its NUL included */

enum { FRAMING_MESSAGE, FRAMING_LINE, FRAMING_RAW, FRAMING_UNSAID };
enum { TEXT_UTF8, TEXT_UTF16LE };
enum { ACCESS_USER, ACCESS_ALL };
enum { DIRECTION_READ, DIRECTION_WRITE, DIRECTION_UNSAID };

/* Options that not all transports have; each says which are its own. */
enum {
    OWN_KEEPALIVE = 1 << 0,
    OWN_ACCESS = 1 << 1,
    OWN_DIRECTION = 1 << 2,
    OWN_INTERFACE = 1 << 3,
    OWN_TTL = 1 << 4,
    OWN_FILES = 1 << 5,
    OWN_DURABLE = 1 << 6
};

typedef struct {
    uint32_t limit;     /* longest message this side takes and sends, in bytes */
    uint32_t buffer;    /* bytes to read ahead, or of a ring; 0: as many as suit the transport */
    uint32_t framing;   /* FRAMING_... */
    uint32_t text;      /* TEXT_...: what the other side writes and reads; this side has UTF-8 */
    uint32_t nul;       /* 1: the other side ends each message with a NUL */
    uint32_t keepalive; /* seconds of silence after which a peer elsewhere is asked whether it lives; 0: never */
    uint32_t access;    /* ACCESS_... */
    uint32_t direction; /* DIRECTION_...: what this side does, where it can do only one */
    char network[OPTION_TEXT]; /* the interface where a group is meant; "": the system's choice */
    uint32_t ttl;       /* how many networks a datagram to a group may see */
    uint32_t files;     /* 1: this side takes files that are passed to it */
    uint32_t durable;   /* 1: a message is on the disk before its write returns */
} options;

/* Sets the defaults, then what `opts` ("limit=1000&buffer=4096", NULL or "" for nothing) and after it the address say.
 * `own`: the OWN_... of the transport.  INVALID for an option that it does not have, or a bad value. */
int options_parse(options *o, const address *a, uint32_t own, const char *opts);

#endif
