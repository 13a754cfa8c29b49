/* kill.c - one side of a conversation is killed at every system call of listen, connect, accept, read, write, call
 * and close: as it enters the call and as it leaves it.  The other side is told at once and has what was sent before,
 * the name is free, and nothing of the dead changes anything for those who come after. */
#include "victim.h"

static long place, instruction;           /* the place of this round, */
static long every;                        /* and how far it is to the next */
static bool stepping;                     /* some instructions behind that */
static int killed[PHASES], told, renamed; /* counts; the first by what the victim was about */

static bool kill_there(const struct child *victim)
{
    stop_place at;
    for (long i = 0; i < place + instruction; i++) {
        next_stop(victim, i < place ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, &at);
        assert_int_not_equal(at.at, STOP_END);
        if (atomic_load(&scene->phase) == PHASE_DONE) {
            let_go(victim);
            return false;
        }
    }
    killed[atomic_load(&scene->phase)]++;
    atomic_store(&scene->killed, true);
    kill(victim->pid, SIGKILL);
    return true;
}

static void sweep(void)
{
    bool reached = true;
    for (place = 1 + every / 2; reached; place += every) {
        instruction = stepping ? 1 + place * 37 % 499 : 0;
        snprintf(where, sizeof where, "%s: killed at stop %ld and instruction %ld", scene->address, place, instruction);
        reached = play(kill_there);
        told += atomic_load(&scene->told);
        renamed += atomic_load(&scene->taken_over);
    }
}

static void kill_everywhere(bool serves, const char *places)
{
    char phases[300] = "";
    int all = 0;
    size_t n = 0;
    memset(killed, 0, sizeof killed);
    told = renamed = 0;
    play_everywhere(serves, false, sweep);
    for (int p = PHASE_LISTEN; p < PHASE_DONE; p++) {
        all += killed[p];
        if (killed[p] > 0)
            n += (size_t)snprintf(phases + n, sizeof phases - n, "%s%d in %s", n ? ", " : "", killed[p], phase_name[p]);
    }
    assert_true(all > 0 && killed[PHASE_READ] > 0);
    if (serves)
        one_line("server killed at %d %s (%s): %d clients told, %d of them took the name, 0 hung, 0 left behind", all,
                 places, phases, told, renamed);
    else
        one_line("client killed at %d %s (%s): the server told and free each time, 0 hung, 0 left behind", all, places,
                 phases);
}

static void at_system_calls(bool serves)
{
    every = full ? 1 : 7;
    stepping = false;
    kill_everywhere(serves, "entries and exits of system calls");
}

static void at_instructions(bool serves)
{
    every = full ? 1 : 31;
    stepping = true;
    kill_everywhere(serves, "instructions");
}

static void test_server_killed(void **state)
{
    (void)state;
    at_system_calls(true);
}

static void test_client_killed(void **state)
{
    (void)state;
    at_system_calls(false);
}

static void test_server_stepped(void **state)
{
    (void)state;
    at_instructions(true);
}

static void test_client_stepped(void **state)
{
    (void)state;
    at_instructions(false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(test_server_killed), TEST(test_client_killed), TEST(test_server_stepped),
                                       TEST(test_client_stepped)};
    if (!may_trace()) {
        puts("skipped: this system does not let a process trace another");
        return SKIPPED;
    }
    scene = share(sizeof *scene);
    RUN_OVER_TRANSPORTS(argc, argv, NULL, tests);
}
