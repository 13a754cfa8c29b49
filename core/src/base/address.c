/* address.c - see address.h. */
#include "base/address.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

#define LOCAL "Local/" /* this user's names, the default */
#define GLOBAL "Global/"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool address_decode(const char *text, size_t n, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            if (n - i < 3) return false;
            int a = hex_value(text[i + 1]), b = hex_value(text[i + 2]);
            if (a < 0 || b < 0) return false;
            c = a * 16 + b;
            i += 2;
        }
        if (c == 0 || used + 1 >= size) return false;
        out[used++] = (char)c;
    }
    out[used] = 0;
    return true;
}

static bool append_encoded(char *out, size_t size, size_t *used, unsigned char c, bool plain)
{
    static const char digit[] = "0123456789ABCDEF";
    size_t need = plain ? 1 : 3;
    if (*used + need >= size) return false;
    if (plain) {
        out[(*used)++] = (char)c;
    } else {
        out[(*used)++] = '%';
        out[(*used)++] = digit[c >> 4];
        out[(*used)++] = digit[c & 15];
    }
    out[*used] = 0;
    return true;
}

bool address_encode(const char *name, char *out, size_t size)
{
    size_t used = 0;
    for (const char *p = name; *p; p++) {
        bool plain = *p != '?' && *p != '&' && *p != '%' && !(*p == '/' && p == name);
        if (!append_encoded(out, size, &used, (unsigned char)*p, plain)) return false;
    }
    return true;
}

static uint64_t fnv1a(uint64_t hash, const char *text)
{
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

void address_file_name(const char *name, char file[ADDRESS_FILE_MAX])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t used = 0;
    bool fits = true;
    for (const char *p = name; fits && *p; p++)
        fits = append_encoded(file, ADDRESS_FILE_MAX, &used, (unsigned char)*p,
                              strchr(plain, *p) && !(*p == '.' && p == name));
    if (fits) return;
    /* '~' stands in no encoded name.  Two hashes of different seed: 128 bits. */
    uint64_t a = fnv1a(UINT64_C(0xcbf29ce484222325), name), b = fnv1a(UINT64_C(0x9ae16a3b2f90404f), name);
    (void)snprintf(file + 24, ADDRESS_FILE_MAX - 24, "~%016" PRIx64 "%016" PRIx64, a, b);
}

static bool is_utf8(const char *text)
{
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    for (size_t size = 0; p < end; p += size)
        if (text_utf8(p, (size_t)(end - p), &size) < 0) return false;
    return true;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Whether the first n bytes are those of `with`, which is in small letters. */
static bool same_letters(const char *text, const char *with, size_t n)
{
    for (; n > 0; n--, text++, with++)
        if (*text != *with && !(*text >= 'A' && *text <= 'Z' && *text - 'A' + 'a' == *with)) return false;
    return true;
}

/* Splits `text` into scheme, the still encoded name and its length. */
static int split(address *a, const char *text, const char **name, size_t *length)
{
    const char *question = strchr(text, '?');
    const char *end = question ? question : text + strlen(text);
    a->options = question ? question + 1 : end;

    if (starts(text, "\\\\")) {
        const char *kind = text + 2 + strcspn(text + 2, "\\/");
        bool local = starts(text, "\\\\.\\") || starts(text, "\\\\./");
        if (same_letters(kind, "\\pipe\\", 6))
            memcpy(a->scheme, "pipe", 5), *name = kind + 6;
        else if (same_letters(kind, "\\mailslot\\", 10))
            memcpy(a->scheme, "mailslot", 9), *name = kind + 10;
        else
            return ipcio__fail(IPCIO_INVALID, "\"%.200s\": not \\\\.\\pipe\\NAME or \\\\.\\mailslot\\NAME", text);
        if (!local)
            return ipcio__fail(IPCIO_UNSUPPORTED,
                               "\"%.200s\": another machine's names cannot be reached this way here; use tcp://HOST:PORT",
                               text);
    } else {
        const char *colon = strstr(text, "://");
        size_t n = colon ? (size_t)(colon - text) : 0;
        if (!colon || colon > end || n == 0 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") < n)
            return ipcio__fail(IPCIO_INVALID, "\"%.200s\": an address is scheme://name, such as pipe://greeter", text);
        if (n >= sizeof a->scheme)
            return ipcio__fail(IPCIO_INVALID, "\"%.200s\": no such scheme", text);
        memcpy(a->scheme, text, n);
        *name = colon + 3;
    }
    if (*name > end) *name = end;
    *length = (size_t)(end - *name);
    return 0;
}

/* Undoes the spellings that mean the same and checks what is left of a name of ipcio's own. */
static int check_name(char *name, const char *text)
{
    for (char *p = name; *p; p++)
        if (*p == '\\') *p = '/';
    if (starts(name, GLOBAL))
        return ipcio__fail(IPCIO_UNSUPPORTED,
                           "\"%.200s\": names for every user (Global\\) need a folder of root's, which this machine "
                           "does not have",
                           text);
    if (starts(name, LOCAL)) memmove(name, name + strlen(LOCAL), strlen(name + strlen(LOCAL)) + 1);
    if (!*name) return ipcio__fail(IPCIO_INVALID, "\"%.200s\": the name is empty", text);
    if (strlen(name) > ADDRESS_NAME_MAX)
        return ipcio__fail(IPCIO_INVALID, "\"%.60s...\": the name has %zu bytes, at most %d are allowed", text,
                           strlen(name), ADDRESS_NAME_MAX);
    if (!is_utf8(name)) return ipcio__fail(IPCIO_INVALID, "\"%.200s\": the name is not UTF-8", text);
    return 0;
}

int address_parse(address *a, const char *text)
{
    memset(a, 0, sizeof *a);
    if (!text) return ipcio__fail(IPCIO_INVALID, "no address was given");
    const char *name = text;
    size_t length = 0;
    int st = split(a, text, &name, &length);
    if (st != 0) return st;
    size_t size = strlen(a->scheme) + 3 + sizeof LOCAL + 3 * length; /* of the text, were every byte encoded */
    a->text = malloc(size + length + 1);
    if (!a->text) return ipcio__fail(IPCIO_NOMEMORY, "no memory for an address");
    a->name = a->text + size;
    a->path = length > 0 && name[0] == '/';
    if (!address_decode(name, length, a->name, length + 1))
        return ipcio__fail(IPCIO_INVALID, "\"%.200s\": %%XX must be two hexadecimal digits and not 00", text);
    if (a->path && strlen(a->name) > ADDRESS_PATH_MAX)
        return ipcio__fail(IPCIO_INVALID, "\"%.60s...\": the path has %zu bytes, at most %d are allowed", text, strlen(a->name),
                           ADDRESS_PATH_MAX);
    if (!a->path && (st = check_name(a->name, text)) != 0) return st;

    /* A name that looks like a prefix needs one before it. */
    bool prefix = !a->path && (starts(a->name, LOCAL) || starts(a->name, GLOBAL));
    int n = snprintf(a->text, size, "%s://%s", a->scheme, a->path ? "/" : prefix ? LOCAL : "");
    const char *rest = a->name + a->path;
    if (a->path) /* only in a name a slash in front is encoded */
        while (*rest == '/') a->text[n++] = *rest++;
    a->text[n] = 0;
    (void)address_encode(rest, a->text + n, size - (size_t)n);
    return 0;
}

void address_free(address *a)
{
    free(a->text);
    a->text = a->name = NULL;
}
