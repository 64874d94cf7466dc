#include "CPlanes.h"
#include <string.h>

// The version for the processor at hand is chosen when the program starts.
#if defined(__x86_64__)
#define VECTORIZED __attribute__((target_clones("avx512bw", "avx2", "default")))
#else
#define VECTORIZED
#endif

// Numbers that are worked on at a time, so that what lies between two loops stays in the nearest cache.
enum { BLOCK = 512 };

#define SPLIT(T)                                                                                              \
    VECTORIZED static void split_##T(const uint8_t *source, const uint8_t *base, size_t count,                \
                                     uint8_t *planes) {                                                       \
        T block[BLOCK], old[BLOCK];                                                                           \
        for (size_t start = 0; start < count; start += BLOCK) {                                               \
            size_t n = count - start < BLOCK ? count - start : BLOCK;                                         \
            memcpy(block, source + start * sizeof(T), n * sizeof(T));                                         \
            if (base) {                                                                                       \
                memcpy(old, base + start * sizeof(T), n * sizeof(T));                                         \
                for (size_t i = 0; i < n; i++) {                                                              \
                    T difference = (T)(block[i] - old[i]);                                                    \
                    block[i] = (T)(difference << 1) ^ (T)(0 - (T)(difference >> (8 * sizeof(T) - 1)));        \
                }                                                                                             \
            } else {                                                                                          \
                for (size_t i = 0; i < n; i++)                                                                \
                    block[i] = (T)(block[i] << 1) | (T)(block[i] >> (8 * sizeof(T) - 1));                     \
            }                                                                                                 \
            for (size_t p = 0; p < sizeof(T); p++) {                                                          \
                uint8_t *plane = planes + p * count + start;                                                  \
                for (size_t i = 0; i < n; i++) plane[i] = (uint8_t)(block[i] >> (8 * p));                     \
            }                                                                                                 \
        }                                                                                                     \
    }

#define MERGE(T)                                                                                              \
    static inline T number_##T(const void *const *planes, size_t i) {                                         \
        T number = 0;                                                                                         \
        for (size_t p = 0; p < sizeof(T); p++)                                                                \
            number |= (T)((T)((const uint8_t *)planes[p])[i] << (8 * p));                                     \
        return number;                                                                                        \
    }                                                                                                         \
                                                                                                              \
    VECTORIZED static void merge_##T(const void *const *planes, size_t count, int isDifference,               \
                                     uint8_t *target) {                                                       \
        T block[BLOCK], old[BLOCK];                                                                           \
        for (size_t start = 0; start < count; start += BLOCK) {                                               \
            size_t n = count - start < BLOCK ? count - start : BLOCK;                                         \
            if (isDifference) {                                                                               \
                memcpy(old, target + start * sizeof(T), n * sizeof(T));                                       \
                for (size_t i = 0; i < n; i++) {                                                              \
                    T number = number_##T(planes, start + i);                                                 \
                    block[i] = (T)(old[i] + ((T)(number >> 1) ^ (T)(0 - (number & 1))));                      \
                }                                                                                             \
            } else {                                                                                          \
                for (size_t i = 0; i < n; i++) {                                                              \
                    T number = number_##T(planes, start + i);                                                 \
                    block[i] = (T)(number >> 1) | (T)(number << (8 * sizeof(T) - 1));                         \
                }                                                                                             \
            }                                                                                                 \
            memcpy(target + start * sizeof(T), block, n * sizeof(T));                                         \
        }                                                                                                     \
    }

SPLIT(uint8_t)
SPLIT(uint16_t)
SPLIT(uint32_t)
SPLIT(uint64_t)
MERGE(uint8_t)
MERGE(uint16_t)
MERGE(uint32_t)
MERGE(uint64_t)

void cp_split(const void *source, const void *base, size_t count, size_t size, void *planes) {
    switch (size) {
    case 1: split_uint8_t(source, base, count, planes); break;
    case 2: split_uint16_t(source, base, count, planes); break;
    case 4: split_uint32_t(source, base, count, planes); break;
    case 8: split_uint64_t(source, base, count, planes); break;
    default: __builtin_trap();
    }
}

void cp_merge(const void *const *planes, size_t count, size_t size, int isDifference, void *target) {
    switch (size) {
    case 1: merge_uint8_t(planes, count, isDifference, target); break;
    case 2: merge_uint16_t(planes, count, isDifference, target); break;
    case 4: merge_uint32_t(planes, count, isDifference, target); break;
    case 8: merge_uint64_t(planes, count, isDifference, target); break;
    default: __builtin_trap();
    }
}
