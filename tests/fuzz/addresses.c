/* addresses.c - fuzz target: addresses and options.
 *
 * What is taken for an address has one spelling that means the same, its file stays in ipcio's folder, and who listens at
 * any spelling of a name is found by that one.  Options keep to their ranges.
 *
 * An input is an address, a line feed, and options. */
#include "fuzz.h"

#include <sched.h>

#include "channel/transport.h"

static unsigned long parsed, met, refused; /* counts */

static void check_parse(const char *text)
{
    address a, again;
    char file[ADDRESS_FILE_MAX], *encoded, *decoded;
    if (address_parse(&a, text) != 0) {
        MUST(ipcio_message()[0] != '\0');
        address_free(&a);
        refused++;
        return;
    }
    parsed++;
    MUST(a.name[0] != '\0' && (a.path ? a.name[0] == '/' : strlen(a.name) <= ADDRESS_NAME_MAX));
    MUST(address_parse(&again, a.text) == 0);
    MUST(strcmp(a.scheme, again.scheme) == 0 && strcmp(a.name, again.name) == 0 && strcmp(a.text, again.text) == 0);
    MUST(a.path == again.path && again.options[0] == '\0');
    address_free(&again);

    address_file_name(a.name, file);
    MUST(strchr(file, '/') == NULL && file[0] != '.' && file[0] != '\0' && strlen(file) < sizeof file);

    encoded = malloc(3 * strlen(a.name) + 1);
    decoded = malloc(strlen(a.name) + 1);
    MUST(address_encode(a.name, encoded, 3 * strlen(a.name) + 1));
    MUST(strcspn(encoded, "?&") == strlen(encoded));
    MUST(address_decode(encoded, strlen(encoded), decoded, strlen(a.name) + 1) && strcmp(a.name, decoded) == 0);
    free(encoded);
    free(decoded);
    address_free(&a);
}

static bool within(uint32_t value, uint32_t least, uint32_t most) { return least <= value && value <= most; }

/* Whether it is the name of a pipe. */
static bool check_options(const char *text, const char *opts)
{
    address a;
    options o;
    const transport *t = NULL;
    int st = transport_find(text, opts, &a, &o, &t);
    bool pipe = st == 0 && strcmp(a.scheme, "pipe") == 0 && !a.path;
    MUST(st == 0 || st == IPCIO_INVALID || st == IPCIO_UNSUPPORTED);
    if (st == 0) {
        MUST(t != NULL && o.limit >= 1 && (o.buffer == 0 || within(o.buffer, 1024, 1u << 30)) && o.framing <= FRAMING_RAW);
        MUST(o.text <= TEXT_UTF16LE && o.nul <= 1 && o.keepalive <= 32767 && o.access <= ACCESS_ALL);
    } else {
        MUST(ipcio_message()[0] != '\0');
    }
    address_free(&a);
    return pipe;
}

static void check_meeting(const char *text, const char *opts)
{
    ipcio_server *server;
    ipcio_conn *client = NULL, *peer = NULL;
    int connecting = 1, accepting = 1, st = ipcio_listen(text, opts, &server);
    if (st != 0) {
        MUST(st == IPCIO_INVALID); /* too long for a socket */
        return;
    }
    while (connecting > 0 || accepting > 0) {
        if (connecting > 0)
            connecting = ipcio_connect(ipcio_server_address(server), opts, IPCIO_TRY, &client);
        if (accepting > 0)
            accepting = ipcio_accept(server, IPCIO_TRY, &peer);
        sched_yield();
    }
    MUST(connecting == 0 && accepting == 0);
    MUST(strcmp(ipcio_conn_address(client), ipcio_conn_address(peer)) == 0);
    ipcio_conn_free(client);
    ipcio_conn_free(peer);
    ipcio_server_free(server);
    met++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *opts;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    opts = strchr(text, '\n');
    if (opts != NULL)
        *opts++ = '\0';
    check_parse(text);
    if (check_options(text, opts))
        check_meeting(text, opts);
    free(text);
    return 0;
}

static void print_counts(void)
{
    printf("addresses: %lu taken, %lu refused; at %lu of them a server and a client met\n", parsed, refused, met);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const seeds[] = {
        "pipe://greeter",
        "pipe:///run/app.sock?framing=line&limit=1000\nbuffer=4096&text=utf-16le&nul=1",
        "\\\\.\\pipe\\Local\\NAME",
        "\\\\.\\mailslot\\Office\\Fred\\Box1",
        "pipe://Local/Global/x%2Fy%3f\nframing=raw&files=1",
        "tcp://[::1]:8080?keepalive=5",
        "tcp://localhost:0",
        "udp://239.1.2.3:5000?interface=lo&ttl=2",
        "fd://7",
        "fifo:///run/lines?direction=read&framing=raw",
        "pipe://gr\xc3\xbc\xc3\x9f gott/../x",
    };
    take_corpus(*argc, *argv);
    atexit(print_counts);
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        seed(name, seeds[i], strlen(seeds[i]));
    }
    return 0;
}
