// Expectations: each that does not hold is a line of output, and `failures` counts them.
#ifndef EXPECT_H
#define EXPECT_H

#include <cairn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define EXPECT(condition) \
    do { \
        if (!(condition)) { \
            failures++; \
            printf("%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, cairn_error_message()); \
        } \
    } while (0)

#define EXPECT_OK(call) EXPECT((call) == CAIRN_OK)

// The call fails with this status and code, and says why in a sentence that has these words in it.
#define EXPECT_FAILURE(call, status, code, words) \
    do { \
        EXPECT((call) == (status)); \
        EXPECT(strcmp(cairn_error_code(), (code)) == 0); \
        EXPECT(strstr(cairn_error_message(), (words)) != NULL); \
    } while (0)

// The call answers with a document that has these words in it.
#define EXPECT_ANSWER(call, words) \
    do { \
        char *json = NULL; \
        EXPECT_OK(call); \
        EXPECT(json != NULL && strstr(json, (words)) != NULL); \
        if (json == NULL || strstr(json, (words)) == NULL) printf("    answered: %s\n", json ? json : "NULL"); \
        cairn_free(json); \
    } while (0)

// The path of `name` in the folder that the program was given. One at a time.
static inline const char *in(const char *folder, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

#endif
