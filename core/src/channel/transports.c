/* transports.c - the table of transports: a new one is a file beside this and a row here. */
#include <stdio.h>
#include <string.h>

#include "channel/transport.h"

extern const transport transport_pipe, transport_shm, transport_tcp, transport_udp, transport_file, transport_fd,
    transport_fifo;

static const transport *const table[] = {
    &transport_shm,
    &transport_pipe,
    &transport_tcp,
    &transport_udp,
    &transport_file,
    &transport_fd,
    &transport_fifo,
};
enum { COUNT = sizeof table / sizeof *table };

static int find(const address *a, const transport **t)
{
    char known[64] = "";
    for (size_t i = 0, n = 0; i < COUNT; i++) {
        if (strcmp((*t = table[i])->scheme, a->scheme) == 0) return 0;
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", table[i]->scheme);
    }
    return ipcio__fail(IPCIO_INVALID, "%s: there is no transport \"%s\" in this build; there are: %s", a->text, a->scheme,
                       known);
}

int transport_find(const char *text, const char *opts, address *a, options *o, const transport **t)
{
    int st = address_parse(a, text);
    if (st == 0) st = find(a, t);
    if (st == 0) st = options_parse(o, a, (*t)->options, opts);
    if (st == 0 && o->framing == FRAMING_UNSAID) o->framing = (*t)->framing;
    if (st == 0 && o->framing == FRAMING_RAW && !o->nul && o->text == TEXT_UTF16LE && o->limit < 4)
        return ipcio__fail(IPCIO_INVALID, "%s: option limit=%u: a character may take 4 bytes", a->text, o->limit);
    if (st != 0 || !(*t)->only_messages || o->framing == FRAMING_MESSAGE) return st;
    return ipcio__fail(IPCIO_UNSUPPORTED, "%s: %s carries messages, no lines and no raw bytes", a->text, a->scheme);
}

const char *const *ipcio_transports(void)
{
    static const char *schemes[COUNT + 1];
    for (size_t i = 0; i < COUNT; i++) schemes[i] = table[i]->scheme; /* always the same words */
    return schemes;
}
