/* peer.h - another library that is measured beside ipcio: a shared object that `bench peer` loads, and that exports a
 * `bench_peer`.  Whatever goes wrong ends the process, with a line that says why. */
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    /* Called by both processes after the fork, by either first; answers the link. */
    void *(*open)(const char *name, bool server, size_t size);
    void (*send)(void *link, const void *data, size_t n);
    void (*receive)(void *link, void *data, size_t n); /* copies a message, of n bytes, to `data` */
    void (*close)(void *link); /* in the server after the last answer was received */
} peer_library;

extern const peer_library bench_peer;
