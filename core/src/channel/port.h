/* port.h - what transports have in common whose names are a host and a port: the address, and the record that a server
 * leaves for this user's clients in ipcio's folder, ENDPOINT@NETWORK.SCHEME.lock.  Who shows the key in it is this user, or
 * root, even when the system cannot tell any more. */
#ifndef IPCIO_PORT_H
#define IPCIO_PORT_H

#include "channel/transport.h"
#include "object/namelock.h"

enum { PORT_KEY = 16, PORT_ENDPOINTS = 8 };

/* The endpoints of scheme://HOST:PORT, in the system's order.  MISSING INVALID NOMEMORY SYSTEM */
int port_resolve(const address *a, os_endpoint endpoints[PORT_ENDPOINTS], size_t *n);

/* Puts the port that the system chose into the address. */
int port_fill_in(address *a, const os_endpoint *at);

/* Nothing tells of a server that appears: sets when its client looks again. */
void port_look_again(ipcio_conn *c);

typedef struct {
    char magic[8];
    uint8_t key[PORT_KEY];
    uint32_t limit; /* longest message the server takes */
    uint32_t unused;
} port_record;

/* `socket` is one of the server's, or one that is connected to it, and tells which network the endpoint is of.
 *
 * Leaves the record beside the lock, where there is a folder for it: else clients know less, as those of other
 * machines. */
void port_publish(const ipcio_server *s, os_fd socket, const os_endpoint *at, const uint8_t key[PORT_KEY], namelock *lock);

/* What the server at the endpoint tells; false: nothing. */
bool port_ask(const ipcio_conn *c, os_fd socket, const os_endpoint *at, port_record *r);

#endif
