/* connection.h - what the server needs of connections, and the descriptors of both. */
#ifndef IPCIO_CONNECTION_H
#define IPCIO_CONNECTION_H

#include "channel/transport.h"

/* A zeroed connection for the transport's accept; connection_delete undoes it. */
int connection_new(const transport *t, const char *text, ipcio_conn **conn);
void connection_delete(ipcio_conn *c);

/* Opens the handle of one that accept has filled in; `text` is the server's address. */
int connection_accepted(ipcio_conn *c, const char *text);

/* Keeps the descriptor of ipcio_fileno readable while a message was read ahead.  Inside the reading side. */
void show_read_ahead(ipcio_conn *c);

/* Whether the handle is a connection. */
bool connection_is(const handle *h);

/* Takes a handle that is about to be freed out of its set. */
void set_forget(handle *h);

/* Any member of the set but this one; NULL: there is none. */
void *set_first(ipcio_set *s, const void *except);

#endif
