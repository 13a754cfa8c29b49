/* connection.h - what the server needs of connections. */
#ifndef IPCIO_CONNECTION_H
#define IPCIO_CONNECTION_H

#include "channel/transport.h"

/* A zeroed connection for the transport's accept; connection_delete undoes it. */
int connection_new(const transport *t, const char *text, ipcio_conn **conn);
void connection_delete(ipcio_conn *c);

/* Opens the handle of one that accept has filled in; `text` is the server's address. */
int connection_accepted(ipcio_conn *c, const char *text);

#endif
