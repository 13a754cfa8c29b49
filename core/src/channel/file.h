/* file.h - what lies in the folder of a `file` address.
 *
 *     ipcio.bell, ipcio.bell.lock   the server's socket and its lock (rendezvous.h)
 *     ipcio.server                  a file_record of it, where it looks for clients that do not come by the socket
 *     ipcio.new                     it being written, and the folder's clock being read
 *     ipcio-wKEY                    says that a connection waits to be found by the server; empty
 *     ipcio-cKEY/                   the connection, made by its client
 *         client, server            whose locks the two sides hold while they live
 *         cNUMBER, sNUMBER          what the client, the server wrote: 0 is a file_record, the others are a file_head and
 *                                   the next bytes of a stream (message.c)
 *
 * Records and heads are in the byte order of the machine: one of another order finds the magic wrong. */
#ifndef IPCIO_FILE_H
#define IPCIO_FILE_H

#include "os/os.h"

#define FILE_BELL "ipcio.bell"
#define FILE_LOCK "ipcio.bell.lock"
#define FILE_SERVER "ipcio.server"
#define FILE_DRAFT "ipcio.new"
#define FILE_PREFIX "ipcio-"
enum {
    FILE_KEY = 32,                                      /* digits */
    FILE_NAME_SIZE = sizeof FILE_PREFIX + 1 + FILE_KEY, /* of a connection's folder */
    FILE_NUMBER = 16,                                   /* digits */
    FILE_MOST = 256 << 10                               /* bytes in a file, behind its head */
};
enum { FILE_MAGIC_RECORD = 0x31667069, FILE_MAGIC_BYTES = 0x32667069 };

/* Who holds a lock, for those who cannot see it locked. */
typedef struct {
    uint32_t magic;
    uint32_t lease; /* seconds after which the lock's file, when it is not touched, is a dead one's; 0: never */
    uint32_t limit; /* of a server: the longest message it takes */
    uint32_t bell;  /* of a server: it has a socket */
    uint8_t place[OS_PLACE];
} file_record;

typedef struct {
    uint32_t magic;
    uint32_t mark; /* 1: see file_conn.out */
    uint64_t number, size, sum;
} file_head;

/* What `sum` must be: the folder's host may have died and left a file half written. */
uint64_t file_sum(const file_head *h, const uint8_t *bytes);

#endif
