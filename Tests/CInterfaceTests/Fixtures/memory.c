// Mapping and copying.
#include "expect.h"

static void maps(void) {
    void *memory;
    EXPECT_OK(cairn_map(5000, &memory));
    EXPECT((uintptr_t)memory % (2 << 20) == 0);
    for (int i = 0; i < 5000; i++) EXPECT(((char *)memory)[i] == 0);
    memset(memory, 7, 5000);
    cairn_unmap((char *)memory + 4096, 904);
    EXPECT(((char *)memory)[4999] == 7);
    cairn_unmap(memory, 5000);
    cairn_unmap(memory, 5000);
    EXPECT_FAILURE(cairn_map(0, &memory), CAIRN_USAGE, "usage", "0 bytes");
    EXPECT(memory == NULL);
    EXPECT_FAILURE(cairn_map(SIZE_MAX, &memory), CAIRN_USAGE, "usage", "bytes");
    EXPECT_FAILURE(cairn_map((size_t)1 << 62, &memory), CAIRN_FAILED, "system", "memory");
}

// Copies `count` stretches of these lengths, in turns, with a byte between them that must stay.
static void copies(size_t count, const size_t *lengths, size_t turns, int jobs) {
    void **targets = calloc(count, sizeof *targets);
    const void **sources = calloc(count, sizeof *sources);
    size_t *bytes = calloc(count, sizeof *bytes);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += (bytes[i] = lengths[i % turns]) + 1;
    unsigned char *from = malloc(total), *to = malloc(total);
    for (size_t i = 0; i < total; i++) from[i] = (unsigned char)(i * 2654435761u >> 13 | 1);
    memset(to, 0, total);
    for (size_t i = 0, start = 0; i < count; start += bytes[i++] + 1) {
        sources[i] = bytes[i] ? from + start : NULL;
        targets[i] = bytes[i] ? to + start : NULL;
    }
    EXPECT_OK(cairn_copy(count, targets, sources, bytes, jobs));
    for (size_t i = 0, start = 0; i < count; start += bytes[i++] + 1) {
        EXPECT(memcmp(to + start, from + start, bytes[i]) == 0);
        EXPECT(to[start + bytes[i]] == 0);
    }
    free(targets), free(sources), free(bytes), free(from), free(to);
}

static void refusals(void) {
    char from[8] = "abcdefg", to[8] = "", *none = NULL;
    void *targets[] = {to, none};
    const void *sources[] = {from, from};
    size_t bytes[] = {8, 8};
    EXPECT_FAILURE(cairn_copy(2, targets, sources, bytes, 0), CAIRN_USAGE, "usage", "targets[1] is NULL");
    EXPECT(to[0] == 0);
    bytes[1] = SIZE_MAX;
    targets[1] = to;
    EXPECT_FAILURE(cairn_copy(2, targets, sources, bytes, 0), CAIRN_USAGE, "usage", "bytes[1] is more");
    EXPECT_FAILURE(cairn_copy(1, targets, sources, bytes, -1), CAIRN_USAGE, "usage", "jobs is -1");
    EXPECT_OK(cairn_copy(0, NULL, NULL, NULL, 0));
    EXPECT_OK(cairn_copy(1, targets, sources, bytes, 0));
    EXPECT(strcmp(to, "abcdefg") == 0);
}

int main(void) {
    maps();
    refusals();
    const size_t piece = 4 << 20;
    copies(1, (size_t[]){0}, 1, 0);
    copies(1, (size_t[]){5 * piece + 3}, 1, 0);
    copies(3, (size_t[]){piece, piece - 1, piece + 1}, 3, 4);
    copies(5, (size_t[]){1, 0, 3 * piece + 17, 12, 2 * piece}, 5, 3);
    copies(20000, (size_t[]){4, 0, 1023, 700}, 4, 64);
    copies(9, (size_t[]){piece, 5}, 2, 1);
    // Around the size from which the caches are passed by, at every distance from the start of a line.
    const size_t large = 64 << 10;
    copies(320, (size_t[]){large - 1, large, large + 1, large + 63, large + 64}, 5, 4);
    return failures != 0;
}
