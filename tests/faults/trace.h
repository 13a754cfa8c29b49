/* trace.h - stops a process at each of its system calls, by ptrace: to kill it there, or to make the call fail. */
#ifndef TESTS_TRACE_H
#define TESTS_TRACE_H

#include "faults.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

/* A child under trace, which has stopped before its first step. */
static inline struct child *traced(void (*run)(void *context), void *context)
{
    struct child *child = forked(run, context);
    int status;
    CHECK(waitpid(child->pid, &status, 0) == child->pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, child->pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
    return child;
}

/* What `run` above calls first. */
static inline void be_traced(void)
{
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
}

typedef struct {
    enum { STOP_ENTRY, STOP_EXIT, STOP_STEP, STOP_END } at; /* END: it has ended, and `status` is how */
    long call;                                              /* the system call's number, also at its exit */
    int status;
} stop_place;

/* Lets it run to its next stop; `how` is PTRACE_SYSCALL or PTRACE_SINGLESTEP. */
static inline void next_stop(const struct child *child, int how, stop_place *place)
{
    int signal = 0, status;
    for (;;) {
        CHECK(ptrace((enum __ptrace_request)how, child->pid, NULL, (long)signal) == 0);
        CHECK(waitpid(child->pid, &status, 0) == child->pid);
        if (!WIFSTOPPED(status)) {
            place->at = STOP_END;
            place->status = status;
            return;
        }
        if (WSTOPSIG(status) == (SIGTRAP | 0x80) || WSTOPSIG(status) == SIGTRAP)
            break;
        signal = WSTOPSIG(status);
    }
    if (WSTOPSIG(status) == SIGTRAP) {
        place->at = STOP_STEP;
        return;
    }
    struct __ptrace_syscall_info info;
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, child->pid, sizeof info, &info) > 0);
    place->at = info.op == PTRACE_SYSCALL_INFO_EXIT ? STOP_EXIT : STOP_ENTRY;
    if (place->at == STOP_ENTRY)
        place->call = (long)info.entry.nr;
}

/* Goes on without being stopped. */
static inline void let_go(const struct child *child) { CHECK(ptrace(PTRACE_DETACH, child->pid, NULL, NULL) == 0); }

#if defined(__x86_64__)
/* At its entry: the call is not made. */
static inline void cancel_call(const struct child *child)
{
    CHECK(ptrace(PTRACE_POKEUSER, child->pid, offsetof(struct user_regs_struct, orig_rax), -1L) == 0);
}

/* At its exit: it answers this error. */
static inline void fail_call(const struct child *child, int error)
{
    CHECK(ptrace(PTRACE_POKEUSER, child->pid, offsetof(struct user_regs_struct, rax), (long)-error) == 0);
}
#endif

/* Some containers forbid it. */
static inline bool may_trace(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#endif
