/* test_status.c - the table of statuses, messages, and what this build can do. */
#include "helper.h"

static const struct {
    const char *name, *code, *class_, *base, *meaning;
    int number;
} table[] = {
#define X(name, number, code, class_, base, meaning) {#name, code, class_, base, meaning, number},
    IPCIO_STATUS_MAP(X)
#undef X
};

static void test_codes_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        assert_true(table[i].number < 0);
        assert_string_equal(ipcio_code(table[i].number), table[i].code);
        assert_true(table[i].meaning[0] != '\0' && table[i].base[0] != '\0');
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(table[i].number, table[k].number);
            assert_string_not_equal(table[i].code, table[k].code);
            assert_string_not_equal(table[i].class_, table[k].class_);
        }
    }
}

static void test_codes_of_other_numbers(void **state)
{
    (void)state;
    assert_string_equal(ipcio_code(IPCIO_OK), "ok");
    assert_string_equal(ipcio_code(12345), "unknown");
    assert_string_equal(ipcio_code(INT32_MIN), "unknown");
    assert_string_equal(ipcio_code(INT32_MAX), "unknown");
    assert_string_equal(ipcio_code(-(int)COUNT(table) - 1), "unknown");
}

static int first_message(void *context)
{
    ipcio_conn *conn;
    int before = strcmp(ipcio_message(), "") == 0;
    (void)context;
    return before && ipcio_connect("pipe://", NULL, 0, &conn) == IPCIO_INVALID &&
           strstr(ipcio_message(), "pipe://") != NULL;
}

static void test_message_is_the_threads_own(void **state)
{
    struct thread thread;
    ipcio_conn *conn;
    const char *address = fresh();
    (void)state;
    FAILS(MISSING, ipcio_connect(address, NULL, 0, &conn));
    assert_null(conn);
    assert_non_null(strstr(ipcio_message(), address));
    begin(&thread, first_message, NULL);
    assert_true(end(&thread));
    assert_non_null(strstr(ipcio_message(), address)); /* the other thread's error did not change it */
}

static void test_system_error(void **state)
{
    ipcio_server *server;
    ipcio_conn *conn;
    const char *address = text_of("%s/no/such/folder", at_path(fresh_path()));
    (void)state;
    FAILS(MISSING, ipcio_listen(address, NULL, &server)); /* the folder */
    assert_null(server);
    assert_int_equal(ipcio_system_error(), ENOENT);
    assert_non_null(strstr(ipcio_message(), "/no/such/folder"));
    FAILS(INVALID, ipcio_connect("greeter", NULL, 0, &conn));
    assert_int_equal(ipcio_system_error(), 0);
}

/* What is left out is not the reason. */
static void test_message_about_a_long_path(void **state)
{
    static char address[3000];
    ipcio_server *server;
    (void)state;
    size_t front = (size_t)snprintf(address, sizeof address, "file://%s/no/such/", fresh_path());
    for (size_t i = front; i + 1 < sizeof address; i++)
        address[i] = i % 100 == 99 ? '/' : 'a';
    FAILS(MISSING, ipcio_listen(address, NULL, &server));
    const char *message = ipcio_message();
    size_t length = strlen(message);
    assert_int_equal(length, 1023);
    assert_true(strncmp(message, address, front) == 0);
    assert_string_equal(message + length - strlen(strerror(ENOENT)), strerror(ENOENT));
}

static void test_transports(void **state)
{
    const char *const *transports = ipcio_transports();
    int pipe = 0;
    (void)state;
    for (; *transports != NULL; transports++)
        pipe += strcmp(*transports, "pipe") == 0;
    assert_int_equal(pipe, 1);
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{NULL, NULL}};
    const struct CMUnitTest tests[] = {
        TEST(test_codes_are_unique),        TEST(test_codes_of_other_numbers),
        TEST(test_message_is_the_threads_own), TEST(test_system_error),
        TEST(test_message_about_a_long_path),
        TEST(test_transports),
    };
    RUN(argc, argv, roles, tests);
}
