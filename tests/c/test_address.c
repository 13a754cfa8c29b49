/* test_address.c - which addresses and options are refused, which spellings are one name, and that no
 * name leaves the directory. */
#include "helper.h"

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X255 X64 X64 X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

/* Both calls refuse it alike, and the message has this text. */
static void refuses(int status, const char *address, const char *options, const char *text)
{
    ipcio_server *server = (ipcio_server *)1;
    ipcio_conn *conn = NULL;
    int listened = ipcio_listen(address, options, &server);
    if (listened != status || strstr(ipcio_message(), text) == NULL)
        print_error("listen \"%s\" \"%s\": %s: %s\n", address, options ? options : "", ipcio_code(listened),
                    ipcio_message());
    assert_int_equal(listened, status);
    assert_null(server);
    assert_non_null(strstr(ipcio_message(), text));
    assert_int_equal(ipcio_connect(address, options, 0, &conn), status);
    assert_null(conn);
    assert_non_null(strstr(ipcio_message(), text));
}

static void test_malformed(void **state)
{
    static const char *const addresses[] = {
        "", "greeter", "pipe", "pipe:", "pipe:/", "pipe:x", "://x", "pipe//x",
        "pipe://", "pipe://?limit=5", "\\\\.\\pipe\\", "\\\\.\\pipe", "\\\\", "pipe://Local\\",
        "pipe://" X255 "x",
        "pipe://a%00b", "pipe://a%", "pipe://a%4", "pipe://a%zz", "pipe://a%4g", "pipe://% 1",
        "pipe://\xff\xfe", "pipe://%ff", "pipe://\xc0\xafx", "pipe://\xed\xa0\x80", "pipe://a\xe2\x82",
        "pipe://\xf4\x90\x80\x80",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(addresses); i++)
        refuses(IPCIO_INVALID, addresses[i], NULL, "");
}

static void test_bad_options(void **state)
{
    static const char *const options[] = {
        "foo=1", "limit", "limit=", "limit=0", "limit=-1", "limit=abc", "limit=1k", "limit=1e3", "limit= 5",
        "limit=+5", "limit=0x10", "limit=4294967296", "limit=99999999999999999999999", "=5", "buffer=1023",
        "buffer=1073741825", "buffer=", "buffer=4096x", "limit=5,buffer=4096", "LIMIT=5", "limit=%00",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(options); i++) {
        refuses(IPCIO_INVALID, "pipe://x", options[i], "");
        refuses(IPCIO_INVALID, text_of("pipe://x?%s", options[i]), NULL, "");
    }
    refuses(IPCIO_INVALID, "pipe://x", "foo=1", "foo"); /* the message says which */
    refuses(IPCIO_INVALID, "pipe://x?buffer=5", NULL, "buffer");
}

static void test_good_options(void **state)
{
    static const char *const options[] = {"",           "limit=1",           "limit=4294967295",
                                          "buffer=1024", "buffer=1048576", "limit=5&buffer=4096",
                                          "limit=%35"};
    (void)state;
    for (size_t i = 0; i < COUNT(options); i++) {
        ipcio_server *server;
        OK(ipcio_listen(fresh(), options[i], &server));
        ipcio_server_free(server);
    }
}

/* What a transport would not heed it refuses, and says what it has; what it has it takes, or finds the value bad. */
static void test_options_of_others(void **state)
{
    static const struct {
        const char *option, *bad, *schemes;
    } own[] = {
        {"keepalive", "x", "tcp file"}, {"access", "x", "tcp udp"}, {"direction", "x", "fifo"}, {"ttl", "0", "udp"},
        {"interface", "0123456789abcdef", "udp"}, {"files", "2", "pipe fd"}, {"durable", "2", "file"},
        {"limit", "0", ""}, {"buffer", "0", ""}, {"framing", "x", ""}, {"text", "x", ""}, {"nul", "2", ""},
    };
    (void)state;
    for (const char *const *scheme = ipcio_transports(); *scheme; scheme++) {
        for (size_t i = 0; i < COUNT(own); i++) {
            const char *address = text_of("%s://x?%s=%s", *scheme, own[i].option, own[i].bad);
            int has = own[i].schemes[0] == 0 || strstr(own[i].schemes, *scheme);
            refuses(IPCIO_INVALID, address, NULL,
                    has ? text_of("option %s=%s", own[i].option, own[i].bad)
                        : text_of("%s://x: %s has no option \"%s\"; it has: limit", *scheme, *scheme, own[i].option));
        }
    }
    refuses(IPCIO_INVALID, "shm://x", "durable=1", "it has: limit, buffer, framing, text, nul");
}

/* The address's own options win over those of the call. */
static void test_options_of_both(void **state)
{
    struct pair pair;
    (void)state;
    open_pair_at(&pair, text_of("%s?limit=20", fresh()), "limit=10", NULL);
    OK(ipcio_write(pair.client, X255, 20, LONG_MS));
    FAILS(TOOBIG, ipcio_write(pair.client, X255, 21, LONG_MS));
    assert_null(strchr(ipcio_server_address(pair.server), '?'));
    free_pair(&pair);
}

static void test_unsupported(void **state)
{
    (void)state;
    refuses(IPCIO_UNSUPPORTED, "\\\\HOST\\pipe\\x", NULL, "tcp");
    refuses(IPCIO_UNSUPPORTED, "pipe://Global\\x", NULL, "Global");
    refuses(IPCIO_UNSUPPORTED, "pipe://Global/x", NULL, "Global");
    refuses(IPCIO_UNSUPPORTED, "\\\\.\\pipe\\Global\\x", NULL, "Global");

}

/* The message says which there are. */
static void test_no_such_transport(void **state)
{
    (void)state;
    refuses(IPCIO_INVALID, "nosuch://x", NULL, "nosuch");
    refuses(IPCIO_INVALID, "nosuch://x", NULL, "pipe");
    refuses(IPCIO_INVALID, "averyveryverylongscheme://x", NULL, "averyveryverylongscheme");
}

/* Two addresses are of one name when the second cannot be listened at. */
static int same(const char *one, const char *other)
{
    ipcio_server *first, *second;
    int st;
    OK(ipcio_listen(one, NULL, &first));
    st = ipcio_listen(other, NULL, &second);
    CHECK(st == IPCIO_OK || st == IPCIO_EXISTS);
    ipcio_server_free(second);
    ipcio_server_free(first);
    return st == IPCIO_EXISTS;
}

/* '@' stands for a fresh name. */
static const char *with_name(const char *pattern, const char *name)
{
    const char *at = strchr(pattern, '@');
    return text_of("%.*s%s%s", (int)(at - pattern), pattern, name, at + 1);
}

static void test_spellings(void **state)
{
    static const struct {
        const char *one, *other;
        int same;
    } pairs[] = {
        {"pipe://@", "\\\\.\\pipe\\@", 1},
        {"pipe://a/@", "pipe://a\\@", 1},
        {"pipe://a/@", "\\\\.\\pipe\\a\\@", 1},
        {"pipe://a/@", "pipe://a%2f@", 1},
        {"pipe://a/@", "pipe://a%5C@", 1},
        {"pipe://@", "pipe://Local\\@", 1},
        {"pipe://@", "pipe://Local/@", 1},
        {"pipe://A@", "pipe://%41@", 1},
        {"pipe://@", "pipe://@?limit=5", 1},
        {"pipe://A@", "pipe://a@", 0},
        {"pipe://@ ", "pipe://@", 0},
        {"pipe://@.", "pipe://@", 0},
        {"pipe://@%3f", "pipe://@", 0},
        {"pipe://a//@", "pipe://a/@", 0},
        {"pipe://a/../@", "pipe://@", 0},
        {"pipe://" X64 X64 X64 "1@", "pipe://" X64 X64 X64 "2@", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        const char *name = fresh_name();
        const char *one = with_name(pairs[i].one, name), *other = with_name(pairs[i].other, name);
        if (same(one, other) != pairs[i].same)
            print_error("%s and %s\n", one, other);
        assert_int_equal(same(one, other), pairs[i].same);
        assert_int_equal(same(other, one), pairs[i].same);
    }
}

/* A message goes there and back under any name. */
static void test_unusual_names(void **state)
{
    static const char *const names[] = {
        " ", "a b\tc\n", "-", "-rf", "*", "~", "$HOME", "con", "a%3fb%26c%25", "\"'`;|", "\x01\x7f",
        "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", "a:b", "%2fleading", "a/", "a//b", "Local", "Local/Local/x", X255,
        ("\xc3\xa9\xc3\xa9" X64 X64 X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ".", "..", "../x", "../../../../../../tmp/x", "a/../../b", "%2f..%2f..%2fx", "...", "\\..\\x",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct pair pair;
        open_pair_at(&pair, text_of("pipe://%s", names[i]), NULL, NULL);
        WRITES(pair.client, "hello");
        READS(pair.peer, "hello");
        assert_int_equal(count_entries(directory), 1); /* only $IPCIO_DIR: nothing has left it */
        free_pair(&pair);
    }
}

/* Every byte of UTF-8 names, alone and doubled, leads to a name of its own inside the directory. */
static void test_every_byte(void **state)
{
    (void)state;
    for (int c = 1; c < 128; c++) {
        ipcio_server *servers[2];
        OK(ipcio_listen(text_of("pipe://%%%02x", (unsigned)c), NULL, &servers[0]));
        OK(ipcio_listen(text_of("pipe://%%%02x%%%02x", (unsigned)c, (unsigned)c), NULL, &servers[1]));
        assert_int_equal(count_entries(directory), 1);
        ipcio_server_free(servers[0]);
        ipcio_server_free(servers[1]);
    }
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_malformed),       TEST(test_bad_options), TEST(test_good_options), TEST(test_options_of_others),
        TEST(test_options_of_both),
        TEST(test_unsupported),     TEST(test_no_such_transport), TEST(test_spellings), TEST(test_unusual_names),
        TEST(test_every_byte),
    };
    RUN(argc, argv, roles, tests);
}
