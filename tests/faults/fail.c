/* fail.c - each system call of a conversation fails, in each way it can: once, or from then on together with all that
 * can fail in this way.  Whoever made it is told by a clear error, or not concerned at all; nobody hangs or crashes,
 * nothing is left open, and after a fault that passed everything works again, in the same process. */
#include "victim.h"

#if defined(__x86_64__)

/* In these ways a call fails for good; in others only now and then. */
static bool lasting(int error)
{
    switch (error) {
    case ENOMEM: case ENOBUFS: case EMFILE: case ENFILE: case ENOSPC: case EIO: case ENOLCK: case EROFS: return true;
    default: return false;
    }
}

/* What each call can answer, but for what it says of the peer, which would be a lie.  The sanitizers' own memory must
 * not fail. */
static const struct {
    long call;
    int errors[8];
} table[] = {
    {SYS_accept4, {EMFILE, ENFILE, ENOMEM, ENOBUFS, EINTR, ECONNABORTED}},
    {SYS_bind, {ENOMEM, ENOSPC, EADDRINUSE, EACCES, EROFS}},
    {SYS_connect, {ENOMEM, EINTR, EAGAIN, ECONNREFUSED}},
    {SYS_epoll_create1, {EMFILE, ENFILE, ENOMEM}},
    {SYS_epoll_ctl, {ENOMEM, ENOSPC}},
    {SYS_epoll_wait, {EINTR}},
    {SYS_eventfd2, {EMFILE, ENFILE, ENOMEM}},
    {SYS_fchmod, {EIO, EROFS}},
    {SYS_fcntl, {ENOLCK, EINTR, ENOMEM}},
    {SYS_fstat, {EIO, ENOMEM}},
    {SYS_getdents64, {EIO, ENOMEM}},
    {SYS_getpeername, {ENOBUFS}},
    {SYS_getrandom, {EINTR}},
    {SYS_getsockname, {ENOBUFS}},
    {SYS_getsockopt, {ENOMEM}},
    {SYS_inotify_add_watch, {ENOMEM, ENOSPC}},
    {SYS_inotify_init1, {EMFILE, ENFILE, ENOMEM}},
    {SYS_listen, {EADDRINUSE}},
    {SYS_mkdir, {EIO, ENOSPC, EROFS, ENOMEM}},
    {SYS_mkdirat, {EIO, ENOSPC, EROFS, ENOMEM}},
    {SYS_name_to_handle_at, {ENOMEM}},
    {SYS_newfstatat, {EIO, ENOMEM}},
    {SYS_openat, {EMFILE, ENFILE, ENOMEM, ENOSPC, EACCES, EINTR, EROFS}},
    {SYS_poll, {EINTR, ENOMEM}},
    {SYS_ppoll, {EINTR, ENOMEM}},
    {SYS_pread64, {EIO, EINTR}},
    {SYS_pwrite64, {ENOSPC, EIO, EINTR}},
    {SYS_read, {EINTR, EIO}},
    {SYS_recvfrom, {EINTR, ENOMEM}},
    {SYS_recvmsg, {EINTR, ENOMEM}},
    {SYS_renameat, {EIO, ENOSPC, EROFS, ENOMEM}},
    {SYS_sendmsg, {EINTR, ENOMEM, ENOBUFS}},
    {SYS_sendto, {EINTR, ENOMEM, ENOBUFS}},
    {SYS_setsockopt, {ENOMEM}},
    {SYS_socket, {EMFILE, ENFILE, ENOMEM, ENOBUFS}},
    {SYS_statx, {EIO, ENOMEM}},
    {SYS_timerfd_create, {EMFILE, ENFILE, ENOMEM}},
    {SYS_unlink, {EIO, EACCES, EROFS}},
    {SYS_unlinkat, {EIO, EACCES, EROFS}},
    {SYS_utimensat, {EIO, EROFS}},
    {SYS_write, {EINTR, EAGAIN}},
    {SYS_close, {EINTR, EIO}}, /* it closes all the same */
#if !SANITIZED
    {SYS_mmap, {ENOMEM}},
#endif
};

static long call, call_number;      /* of this round: the `call`-th, which turned out to be this one, */
static int error, error_number;     /* fails with its `error`-th error, which is this, */
static bool for_good;               /* once or for good */
static long every, apart;           /* of so many faults one is tried, of so many calls one fails */
static int calls, once, lasted;     /* counts: calls that failed, faults of the two sorts, */
static int failures, gave_up;       /* errors told, victims that could not go on */

/* Its `n`-th error, or 0. */
static int error_of(long number, int n)
{
    for (size_t i = 0; i < COUNT(table); i++)
        if (table[i].call == number)
            return table[i].errors[n];
    return 0;
}

static bool fails_with(long number, int with)
{
    for (int n = 0; error_of(number, n) != 0; n++)
        if (error_of(number, n) == with)
            return true;
    return false;
}

static bool fail_there(const struct child *victim)
{
    stop_place at = {0};
    bool reached = false, failing = false;
    for (long n = 0;;) {
        next_stop(victim, PTRACE_SYSCALL, &at);
        if (at.at == STOP_END) { /* it died of the fault: ends_well is to say so */
            print_error("%s, in %s: wait status %x\n", where, phase_name[atomic_load(&scene->phase)],
                        (unsigned)at.status);
            fail();
        }
        if (atomic_load(&scene->phase) == PHASE_DONE) {
            let_go(victim);
            return reached;
        }
        if (at.at == STOP_EXIT && failing)
            fail_call(victim, error_number);
        failing = false;
        if (at.at != STOP_ENTRY)
            continue;
        if (++n == call) {
            reached = true;
            call_number = at.call;
            error_number = error_of(call_number, error);
            failing = error_number != 0;
            snprintf(where, sizeof where, "%s: call %ld (number %ld) fails %s: %s", scene->address, call, call_number,
                     for_good ? "for good" : "once", strerror(error_number));
        } else if (n > call && for_good && lasting(error_number)) { /* it may be another call than the time before */
            failing = fails_with(at.call, error_number);
        }
        if (failing && at.call != SYS_close)
            cancel_call(victim);
    }
}

static bool try_fault(void)
{
    if (!play(fail_there))
        return false;
    if (!for_good && atomic_load(&scene->gave_up)) {
        print_error("%s: it should have worked the second time\n", where);
        fail();
    }
    failures += atomic_load(&scene->failures);
    gave_up += atomic_load(&scene->gave_up);
    if (error_number != 0)
        (*(for_good ? &lasted : &once))++;
    return true;
}

static void sweep(void)
{
    static long first;
    long passed = every / 2;
    for (call = 1 + first++ % apart;; call += apart) {
        error = 0;
        do {
            for_good = false;
            if (passed++ % every == 0 || error == 0) /* the first tells which call it is */
                if (!try_fault())
                    return;
            error_number = error_of(call_number, error);
            for_good = true;
            if (error_number != 0 && lasting(error_number) && passed++ % every == 0)
                if (!try_fault())
                    return;
        } while (error_number != 0 && error_of(call_number, ++error) != 0);
        calls++;
    }
}

static void fail_everywhere(bool serves)
{
    every = full ? 1 : 23;
    apart = full || strncmp(transport, "file", 4) != 0 ? 1 : 7; /* it makes many, and each on files */
    calls = once = lasted = failures = gave_up = 0;
    play_everywhere(serves, true, sweep);
    assert_true(once > 0 && failures > 0);
    one_line("%s: each of %d system calls failing: %d faults once, %d for good: %d clear errors, %d gave up for good, "
             "0 hung, 0 crashed, 0 left behind",
             serves ? "server" : "client", calls, once, lasted, failures, gave_up);
}

static void test_server_fails(void **state)
{
    (void)state;
    fail_everywhere(true);
}

static void test_client_fails(void **state)
{
    (void)state;
    fail_everywhere(false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_server_fails), TEST(test_client_fails)};
    if (!may_trace()) {
        puts("skipped: this system does not let a process trace another");
        return SKIPPED;
    }
    scene = share(sizeof *scene);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}

#else

int main(void)
{
    puts("skipped: for this processor nobody has written how a system call is made to fail");
    return SKIPPED;
}

#endif
