// What each stage is measured beside: the same work as anybody would write it without Cairn, on the bare libraries and calls.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// A context of libzstd. `matches` 0: as `ZstdCompressor.Search.symbols`, 1: as `matches`. NULL where there is no memory.
void *lm_makeCompressor(int matches);
void lm_freeCompressor(void *context);
/// Returns the frame's length, 0 for a failure.
size_t lm_compress(void *context, const void *source, size_t count, void *target, size_t room);

void *lm_makeDecompressor(void);
void lm_freeDecompressor(void *context);
/// Returns the bytes that came out, 0 for a failure.
size_t lm_decompress(void *context, const void *source, size_t count, void *target, size_t room);

/// Makes a file of `size` bytes by direct writes from one thread, in blocks of 4 MiB from memory that is aligned to 2 MiB and advised to
/// be huge pages, and then `fdatasync`. Buffered where the file system refuses direct writes. Returns the seconds; -1 with errno set.
double lm_writeDirect(const char *path, uint64_t size);

/// An LMDB file with one tree of `entries` random keys of 32 bytes, each with a value of 16. NULL for a failure.
void *lm_makeIndex(const char *path, uint64_t entries);
/// Puts `count` random keys, in their order, in one durable transaction. Returns the seconds; -1 for a failure.
double lm_commit(void *index, uint64_t count);
void lm_freeIndex(void *index);
