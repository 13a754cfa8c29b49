/* options.c - see options.h. */
#include "base/options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

/* A new option is a field in options.h and a row here.  Its value is a number in a range, or one of some words, which
 * stands for its place among them, or a text. */
static const struct {
    const char *name;
    size_t field;
    uint32_t value, least, most;
    const char *words[4];
    uint32_t own; /* OWN_...: of the transports that name it; 0: of all */
} table[] = {
    {"limit", offsetof(options, limit), 64u << 20, 1, UINT32_MAX, {0}, 0},
    {"buffer", offsetof(options, buffer), 0, 1024, 1u << 30, {0}, 0},
    {"framing", offsetof(options, framing), FRAMING_UNSAID, 0, 0, {"message", "line", "raw"}, 0},
    {"text", offsetof(options, text), TEXT_UTF8, 0, 0, {"utf-8", "utf-16le"}, 0},
    {"nul", offsetof(options, nul), 0, 0, 1, {0}, 0},
    {"keepalive", offsetof(options, keepalive), 60, 0, 32767, {0}, OWN_KEEPALIVE},
    {"access", offsetof(options, access), ACCESS_USER, 0, 0, {"user", "all"}, OWN_ACCESS},
    {"direction", offsetof(options, direction), DIRECTION_UNSAID, 0, 0, {"read", "write"}, OWN_DIRECTION},
    {"interface", offsetof(options, network), 0, 0, 0, {0}, OWN_INTERFACE},
    {"ttl", offsetof(options, ttl), 1, 1, 255, {0}, OWN_TTL},
    {"files", offsetof(options, files), 0, 0, 1, {0}, OWN_FILES},
    {"durable", offsetof(options, durable), 0, 0, 1, {0}, OWN_DURABLE},
};
enum { COUNT = sizeof table / sizeof *table };

static uint32_t *field(options *o, size_t row)
{
    return (uint32_t *)(void *)((char *)o + table[row].field);
}

static bool applies(size_t row, uint32_t own)
{
    return (table[row].own & ~own) == 0;
}

static int unknown(const address *a, uint32_t own, const char *name)
{
    char known[200] = "";
    for (size_t i = 0, n = 0; i < COUNT && n < sizeof known; i++)
        if (applies(i, own)) n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", table[i].name);
    return ipcio__fail(IPCIO_INVALID, "%s: %s has no option \"%s\"; it has: %s", a->text, a->scheme, name, known);
}

static int set_word(options *o, size_t row, const char *text, const char *value)
{
    char known[100] = "";
    for (uint32_t i = 0, n = 0; table[row].words[i]; i++) {
        if (strcmp(table[row].words[i], value) == 0) {
            *field(o, row) = i;
            return 0;
        }
        n += (uint32_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", table[row].words[i]);
    }
    return ipcio__fail(IPCIO_INVALID, "%s: option %s=%s: one of %s is needed", text, table[row].name, value, known);
}

static int set_text(char to[OPTION_TEXT], const char *text, const char *name, const char *value)
{
    if (strlen(value) >= OPTION_TEXT)
        return ipcio__fail(IPCIO_INVALID, "%s: option %s=%s: it is too long", text, name, value);
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

static int set(options *o, const address *a, uint32_t own, const char *name, const char *value)
{
    const char *text = a->text;
    size_t row = 0;
    while (row < COUNT && strcmp(table[row].name, name) != 0) row++;
    if (row == COUNT || !applies(row, own)) return unknown(a, own, name);
    if (table[row].words[0]) return set_word(o, row, text, value);

    if (table[row].most == 0) return set_text((char *)field(o, row), text, name, value);

    uint64_t number = 0;
    const char *p = value;
    for (; *p >= '0' && *p <= '9' && number <= table[row].most; p++) number = number * 10 + (uint64_t)(*p - '0');
    if (p == value || *p || number < table[row].least || number > table[row].most)
        return ipcio__fail(IPCIO_INVALID, "%s: option %s=%s: a whole number from %" PRIu32 " to %" PRIu32 " is needed",
                           text, name, value, table[row].least, table[row].most);
    *field(o, row) = (uint32_t)number;
    return 0;
}

static int parse(options *o, const address *a, uint32_t own, const char *list)
{
    while (*list) {
        size_t n = strcspn(list, "&");
        const char *equals = memchr(list, '=', n);
        char name[32], value[256];
        if (!equals || equals == list || !address_decode(list, (size_t)(equals - list), name, sizeof name) ||
            !address_decode(equals + 1, n - (size_t)(equals + 1 - list), value, sizeof value))
            return ipcio__fail(IPCIO_INVALID, "%s: \"%.*s\" is not an option; they are name=value&name=value", a->text,
                               (int)(n < 100 ? n : 100), list);
        int st = set(o, a, own, name, value);
        if (st < 0) return st;
        list += n;
        if (*list) list++;
    }
    return 0;
}

int options_parse(options *o, const address *a, uint32_t own, const char *opts)
{
    memset(o, 0, sizeof *o);
    for (size_t row = 0; row < COUNT; row++)
        if (table[row].value) *field(o, row) = table[row].value;
    int st = opts ? parse(o, a, own, opts) : 0;
    return st < 0 ? st : parse(o, a, own, a->options);
}
