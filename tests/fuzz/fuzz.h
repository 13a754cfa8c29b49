/* fuzz.h - what the fuzz targets share.  They are programs of clang's libFuzzer:
 *
 *     fuzz_NAME CORPUS-FOLDER [-max_total_time=SECONDS] ...      goes on from the inputs in the folder
 *     fuzz_NAME FILE                                             one input again
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipcio.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input. */
#define MUST(condition)                                                                                        \
    do                                                                                                         \
        if (!(condition)) {                                                                                    \
            fprintf(stderr, "%s:%d: not true: %s; message: %s\n", __FILE__, __LINE__, #condition, ipcio_message()); \
            abort();                                                                                           \
        }                                                                                                      \
    while (0)

static const char *corpus; /* the folder, or NULL */

static inline void take_corpus(int argc, char **argv)
{
    struct stat st;
    for (int i = 1; i < argc; i++)
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
            corpus = argv[i];
}

/* Adds an input to begin with. */
static inline void seed(const char *name, const void *data, size_t size)
{
    char path[4096];
    FILE *file;
    if (corpus == NULL)
        return;
    MUST(snprintf(path, sizeof path, "%s/seed-%s", corpus, name) < (int)sizeof path);
    file = fopen(path, "we");
    MUST(file != NULL && fwrite(data, 1, size, file) == size);
    fclose(file);
}

#endif
