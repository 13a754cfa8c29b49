/* test_memory.c - reading the memory of another process. */
#include "helper.h"

#include <sys/mman.h>

enum { SIZE = 300000 };
static const uid_t nobody = 65534;

/* Tells where its memory is, and shows it whole, up to a hole behind it, until the test ends it. */
static int export_role(char **arguments)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (SIZE + page - 1) / page * page;
    unsigned char *data = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int64_t pid;
    uint64_t address;
    CHECK(data != MAP_FAILED && munmap(data + size, page) == 0);
    fill(data, size, 3);
    if (arguments[0]) CHECK(setgid(nobody) == 0 && setuid(nobody) == 0);
    if (arguments[0] && strcmp(arguments[0], "dumpable") == 0) CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    OK(ipcio_memory_export(data, &pid, &address));
    CHECK(pid == getpid() && address == (uintptr_t)data);
    tell(text_of("%llu", (unsigned long long)address));
    tell_number((long)size);
    wait_for_end();
    return 0;
}

/* As an ordinary user. */
static int read_role(char **arguments)
{
    char byte;
    size_t got;
    CHECK(setgid(nobody) == 0 && setuid(nobody) == 0);
    int st = ipcio_memory_read(atoll(arguments[0]), strtoull(arguments[1], NULL, 10), &byte, 1, &got);
    CHECK(got == (st == 0));
    tell(ipcio_code(st));
    return 0;
}

static uint64_t hear_address(struct child *child)
{
    char text[64];
    CHECK(read_line(child->out, text, sizeof text));
    return strtoull(text, NULL, 10);
}

static void test_read(void **state)
{
    static unsigned char to[SIZE * 2];
    struct child *child = start("export", NULL);
    uint64_t address = hear_address(child);
    size_t size = (size_t)hear_number(child), got = 99;
    (void)state;
    OK(ipcio_memory_read(child->pid, address, to, size, &got));
    assert_true(got == size && is_filled(to, size, 3));
    OK(ipcio_memory_read(child->pid, address + 70001, to, 10, &got));
    assert_true(got == 10 && is_filled(to, 10, 70001 + 3));
    OK(ipcio_memory_read(child->pid, address, to, 0, &got));
    assert_int_equal(got, 0);

    memset(to, 0, sizeof to);
    FAILS(TOOBIG, ipcio_memory_read(child->pid, address + 1, to, size, &got)); /* one byte more than there is */
    assert_true(got == size - 1 && is_filled(to, size - 1, 4) && to[size - 1] == 0);
    assert_non_null(strstr(ipcio_message(), text_of("only %zu of %zu bytes", size - 1, size)));
    FAILS(INVALID, ipcio_memory_read(child->pid, address + size, to, 1, &got));
    assert_int_equal(got, 0);
    FAILS(INVALID, ipcio_memory_read(child->pid, 0, to, 1, &got));
    FAILS(INVALID, ipcio_memory_read(child->pid, UINT64_MAX, to, 1, &got));

    pid_t pid = child->pid;
    kill9(child);
    FAILS(MISSING, ipcio_memory_read(pid, address, to, 1, &got));
    assert_int_equal(got, 0);
    FAILS(MISSING, ipcio_memory_read(INT64_C(1) << 40, address, to, 1, &got));
    got = 99;
    FAILS(INVALID, ipcio_memory_read(0, address, to, 1, &got));
    assert_int_equal(got, 0);
    FAILS(INVALID, ipcio_memory_read(-1, address, to, 1, &got));
}

/* What the buffer holds when it is read, not when it was exported. */
static void test_own(void **state)
{
    char data[] = "before", to[sizeof data];
    int64_t pid;
    uint64_t address;
    size_t got;
    (void)state;
    OK(ipcio_memory_export(data, &pid, &address));
    assert_int_equal(pid, getpid());
    memcpy(data, "after.", sizeof data);
    OK(ipcio_memory_read(pid, address, to, sizeof to, &got));
    assert_string_equal(to, "after.");
}

static int ptrace_scope(void)
{
    int scope = 0;
    FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (file && fscanf(file, "%d", &scope) != 1) scope = 0;
    if (file) fclose(file);
    return scope;
}

/* Another user's is denied; the same user's not, unless it changed its user, after which it may know secrets. */
static void test_denied(void **state)
{
    static const char *const exporters[] = {NULL, "changed", "dumpable"};
    (void)state;
    if (geteuid() != 0) skip(); /* only root can become another user */
    for (size_t i = 0; i < COUNT(exporters); i++) {
        struct child *child = start("export", exporters[i], NULL);
        uint64_t address = hear_address(child);
        (void)hear_number(child);
        struct child *reader =
            start("read", text_of("%d", (int)child->pid), text_of("%llu", (unsigned long long)address), NULL);
        hear(reader, i == 2 && ptrace_scope() < 2 ? "ok" : "denied");
        finish(reader);
        finish(child);
    }
}

int main(int argc, char **argv)
{
    static const struct role roles[] = {{"export", export_role}, {"read", read_role}, {NULL, NULL}};
    const struct CMUnitTest tests[] = {TEST(test_read), TEST(test_own), TEST(test_denied)};
    RUN(argc, argv, roles, tests);
}
