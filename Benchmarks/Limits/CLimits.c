#define _GNU_SOURCE
#define ZSTD_STATIC_LINKING_ONLY
#include "CLimits.h"
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void *lm_makeCompressor(int matches) {
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (!context) return NULL;
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, matches ? 1 : ZSTD_minCLevel());
    if (!matches) ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
    return context;
}

void lm_freeCompressor(void *context) { ZSTD_freeCCtx(context); }

size_t lm_compress(void *context, const void *source, size_t count, void *target, size_t room) {
    size_t length = ZSTD_compress2(context, target, room, source, count);
    return ZSTD_isError(length) ? 0 : length;
}

void *lm_makeDecompressor(void) { return ZSTD_createDCtx(); }
void lm_freeDecompressor(void *context) { ZSTD_freeDCtx(context); }

size_t lm_decompress(void *context, const void *source, size_t count, void *target, size_t room) {
    size_t length = ZSTD_decompressDCtx(context, target, room, source, count);
    return ZSTD_isError(length) ? 0 : length;
}

enum { BLOCK = 4 << 20, HUGE_PAGE = 2 << 20 };

double lm_writeDirect(const char *path, uint64_t size) {
    char *memory = mmap(NULL, BLOCK + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -1;
    char *block = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    madvise(block, BLOCK, MADV_HUGEPAGE);
    memset(block, 0xA5, BLOCK);
    double start = now();
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    int descriptor = open(path, flags | O_DIRECT, 0666);
    if (descriptor < 0 && errno == EINVAL) descriptor = open(path, flags & ~O_EXCL, 0666);
    int failed = descriptor < 0;
    for (uint64_t done = 0; !failed && done < size; done += BLOCK) {
        size_t count = size - done < BLOCK ? (size_t)(size - done) : BLOCK;
        failed = pwrite(descriptor, block, count, (off_t)done) != (ssize_t)count;
    }
    failed = failed || fdatasync(descriptor) != 0;
    double seconds = now() - start;
    int code = errno;
    if (descriptor >= 0) close(descriptor);
    munmap(memory, BLOCK + HUGE_PAGE);
    errno = code;
    return failed ? -1 : seconds;
}

typedef struct {
    MDB_env *environment;
    MDB_dbi tree;
    uint64_t state;
} Index;

typedef struct {
    uint64_t words[4];
} Key;

// SplitMix64.
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static int compare(const void *one, const void *other) { return memcmp(one, other, sizeof(Key)); }

static int put(Index *index, uint64_t count, unsigned flags, double *seconds) {
    Key *keys = malloc(count * sizeof(Key));
    if (!keys) return ENOMEM;
    for (uint64_t i = 0; i < count; i++)
        for (int word = 0; word < 4; word++) keys[i].words[word] = next(&index->state);
    double start = now();
    qsort(keys, count, sizeof(Key), compare);
    MDB_txn *transaction;
    int code = mdb_txn_begin(index->environment, NULL, 0, &transaction);
    if (code == 0) {
        char bytes[16] = {1};
        for (uint64_t i = 0; code == 0 && i < count; i++) {
            MDB_val key = {sizeof(Key), &keys[i]}, value = {sizeof bytes, bytes};
            code = mdb_put(transaction, index->tree, &key, &value, flags);
        }
        if (code == 0) code = mdb_txn_commit(transaction);
        else mdb_txn_abort(transaction);
    }
    *seconds = now() - start;
    free(keys);
    return code;
}

void *lm_makeIndex(const char *path, uint64_t entries) {
    Index *index = calloc(1, sizeof *index);
    if (!index) return NULL;
    MDB_txn *transaction;
    double seconds;
    int code = mdb_env_create(&index->environment);
    if (code == 0) code = mdb_env_set_mapsize(index->environment, (size_t)64 << 30);
    if (code == 0) code = mdb_env_open(index->environment, path, MDB_NOLOCK | MDB_NOSUBDIR | MDB_NOTLS, 0666);
    if (code == 0) code = mdb_txn_begin(index->environment, NULL, 0, &transaction);
    if (code == 0) {
        code = mdb_dbi_open(transaction, NULL, 0, &index->tree);
        if (code == 0) code = mdb_txn_commit(transaction);
        else mdb_txn_abort(transaction);
    }
    if (code == 0) code = put(index, entries, MDB_APPEND, &seconds);
    if (code == 0) return index;
    lm_freeIndex(index);
    errno = code > 0 ? code : EIO;
    return NULL;
}

double lm_commit(void *index, uint64_t count) {
    double seconds;
    int code = put(index, count, 0, &seconds);
    errno = code > 0 ? code : EIO;
    return code == 0 ? seconds : -1;
}

void lm_freeIndex(void *handle) {
    Index *index = handle;
    if (index->environment) mdb_env_close(index->environment);
    free(index);
}
