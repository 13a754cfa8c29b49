/* port.c - see port.h. */
#include "channel/port.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = ADDRESS_PATH_MAX + 1, ENDPOINT_TEXT = 100 };

static const char magic[8] = {'i', 'p', 'c', 'i', 'o', ' ', 't', '1'};

/* Takes a name apart, in which `port` comes to point to its end. */
static int split(const address *a, char host[ADDRESS_NAME_MAX + 1], const char **port)
{
    const char *end = strrchr(a->name, ':'), *from = a->name;
    size_t n = end ? (size_t)(end - from) : 0;
    if (n >= 2 && from[0] == '[' && from[n - 1] == ']') from++, n -= 2;
    else if (end && memchr(from, ':', n)) n = 0; /* IPv6 without brackets */
    *port = end ? end + 1 : a->name;
    unsigned long number = 0;
    const char *p = *port;
    for (; *p >= '0' && *p <= '9' && number <= 65535; p++) number = number * 10 + (unsigned long)(*p - '0');
    if (a->path || (end && n == 0) || p == *port || *p || number > 65535)
        return ipcio__fail(IPCIO_INVALID,
                           "%s: it must be %s://HOST:PORT, %s://[IPv6]:PORT or %s://PORT, a port from 0 to 65535",
                           a->text, a->scheme, a->scheme, a->scheme);
    (void)snprintf(host, ADDRESS_NAME_MAX + 1, "%.*s", (int)n, n ? from : "");
    if (n == 0) (void)snprintf(host, ADDRESS_NAME_MAX + 1, "127.0.0.1");
    return 0;
}

int port_resolve(const address *a, os_endpoint endpoints[PORT_ENDPOINTS], size_t *n)
{
    char host[ADDRESS_NAME_MAX + 1], folder[PATH_SIZE];
    const char *port, *wrong;
    int st = split(a, host, &port);
    if (st != 0) return st;
    /* Without a folder there is no record, and all else works; but what is said wrongly is told. */
    if (os_directory(folder, sizeof folder, &wrong) == IPCIO_INVALID && wrong)
        return ipcio__fail(IPCIO_INVALID, "%s: the folder of names %s %s", a->text, folder, wrong);
    *n = PORT_ENDPOINTS;
    st = os_resolve(host, port, endpoints, n);
    if (st == IPCIO_INVALID) return ipcio__fail(st, "%s: there is no host \"%s\"", a->text, host);
    return st == 0 ? 0 : ipcio__fail_os(st, "%s: the host \"%s\" cannot be looked up", a->text, host);
}

int port_fill_in(address *a, const os_endpoint *at)
{
    char text[ENDPOINT_TEXT], host[ADDRESS_NAME_MAX + 1], name[ADDRESS_NAME_MAX + 8], encoded[3 * sizeof name];
    const char *port;
    address real;
    int st = os_endpoint_text(at, text, sizeof text);
    if (st == 0) st = split(a, host, &port);
    if (st != 0) return st;
    (void)snprintf(name, sizeof name, strchr(host, ':') ? "[%s]%s" : "%s%s", host, strrchr(text, ':'));
    (void)address_encode(name, encoded, sizeof encoded);
    char whole[sizeof encoded + sizeof a->scheme + 3];
    (void)snprintf(whole, sizeof whole, "%s://%s", a->scheme, encoded);
    if ((st = address_parse(&real, whole)) == 0) {
        address_free(a);
        *a = real;
    } else {
        address_free(&real);
    }
    return st;
}

void port_look_again(ipcio_conn *c)
{
    int64_t *pause = &c->base.side[IPCIO_WANT_READ].pause;
    c->base.side[IPCIO_WANT_READ].fd = OS_NONE;
    *pause = *pause == 0 ? MILLISECOND : *pause * 2 < 50 * MILLISECOND ? *pause * 2 : 50 * MILLISECOND;
}

/* What the names of all records of a transport end in. */
static const char *ending(const transport *t, char text[32])
{
    (void)snprintf(text, 32, ".%.15s.lock", t->scheme);
    return text;
}

/* Where the record of the server at an endpoint lies.  Each network of the machine has its own 127.0.0.1. */
static bool record_path(const transport *t, os_fd socket, const os_endpoint *at, char folder[PATH_SIZE], char path[PATH_SIZE])
{
    char text[ENDPOINT_TEXT], file[ADDRESS_FILE_MAX], end[32];
    const char *wrong;
    if (os_directory(folder, PATH_SIZE, &wrong) != 0 || os_endpoint_text(at, text, sizeof text) != 0) return false;
    size_t n = strlen(text);
    uint64_t network = os_endpoint_network(socket);
    if (network) (void)snprintf(text + n, sizeof text - n, "@%" PRIu64, network);
    address_file_name(text, file);
    return snprintf(path, PATH_SIZE, "%s/%s%s", folder, file, ending(t, end)) < PATH_SIZE;
}

void port_publish(const ipcio_server *s, os_fd socket, const os_endpoint *at, const uint8_t key[PORT_KEY], namelock *lock)
{
    port_record r = {.limit = s->options.limit};
    char folder[PATH_SIZE], path[PATH_SIZE], end[32];
    memcpy(r.magic, magic, sizeof magic);
    memcpy(r.key, key, sizeof r.key);
    if (!record_path(s->transport, socket, at, folder, path)) return;
    namelock_sweep(folder, ending(s->transport, end), NULL);
    if (namelock_take(lock, path) == 0 && os_file_write(lock->file, &r, sizeof r) != 0) namelock_drop(lock);
}

bool port_ask(const ipcio_conn *c, os_fd socket, const os_endpoint *at, port_record *r)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    os_fd file;
    if (!record_path(c->transport, socket, at, folder, path) || os_file_open(path, false, &file) != 0) return false;
    bool told = os_file_read(file, r, sizeof *r) == 0 && memcmp(r->magic, magic, sizeof magic) == 0 &&
                namelock_held(file);
    os_close(file);
    return told;
}
