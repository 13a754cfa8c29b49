/* Greets every client, or lets itself be greeted.
 * usage: greeter serve [address] | greeter NAME [address] */
#include <ipcio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int status)
{
    if (status < 0) {
        fprintf(stderr, "greeter: %s\n", ipcio_message());
        exit(1);
    }
}

static int greet(void *context, ipcio_conn *conn, const void *request, size_t size)
{
    char answer[80];
    int n = snprintf(answer, sizeof answer, "hello %.*s", size < 64 ? (int)size : 64, (const char *)request);
    (void)context;
    if (ipcio_write(conn, answer, (size_t)n, 1000) < 0)
        ipcio_conn_close(conn); /* this client does not take its answers; the others go on */
    return 0;
}

int main(int argc, char **argv)
{
    const char *address = argc > 2 ? argv[2] : "pipe://greeter";
    if (argc > 1 && strcmp(argv[1], "serve") == 0) {
        ipcio_server *server;
        must(ipcio_listen(address, NULL, &server));
        must(ipcio_serve(server, greet, NULL)); /* until Ctrl-C */
        ipcio_server_free(server);
    } else {
        const char *name = argc > 1 ? argv[1] : "world";
        ipcio_conn *conn;
        const void *answer;
        size_t size;
        must(ipcio_connect(address, NULL, 10000, &conn)); /* waits for the server */
        must(ipcio_call(conn, name, strlen(name), 1000, &answer, &size));
        printf("%.*s\n", (int)size, (const char *)answer);
        ipcio_conn_free(conn);
    }
    return 0;
}
