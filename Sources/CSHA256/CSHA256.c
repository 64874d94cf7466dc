#include "CSHA256.h"

#include <string.h>

// One word of each lane. Without AVX-512 the compiler makes several registers of it, which is correct and slow.
typedef uint32_t Words __attribute__((vector_size(4 * cs_lanes)));
typedef uint8_t Bytes __attribute__((vector_size(4 * cs_lanes)));

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#if defined(__x86_64__)
#define WIDE __attribute__((target_clones("avx512bw", "default")))
#else
#define WIDE
#endif

#define INLINE static inline __attribute__((always_inline))

/// The state of every lane, word by word.
typedef struct {
    uint32_t words[8][cs_lanes];
} State;

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))

/// Swaps single words between two rows, or pairs, or quadruples, by what `SHUFFLE` names.
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define LOW_WORDS(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH_WORDS(a, b) SHUFFLE(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW_PAIRS(a, b) SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH_PAIRS(a, b) SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define EVEN_QUADS(a, b) SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ODD_QUADS(a, b) SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)

/// Makes columns of rows: of a block of each lane, its first words, its second ones, and so on.
INLINE void transpose(Words rows[16]) {
    Words mixed[16];
    for (int i = 0; i < 16; i += 2) {
        mixed[i] = LOW_WORDS(rows[i], rows[i + 1]);
        mixed[i + 1] = HIGH_WORDS(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = LOW_PAIRS(mixed[i], mixed[i + 2]);
        rows[i + 1] = HIGH_PAIRS(mixed[i], mixed[i + 2]);
        rows[i + 2] = LOW_PAIRS(mixed[i + 1], mixed[i + 3]);
        rows[i + 3] = HIGH_PAIRS(mixed[i + 1], mixed[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        mixed[i] = EVEN_QUADS(rows[i], rows[i + 4]);
        mixed[i + 4] = ODD_QUADS(rows[i], rows[i + 4]);
        mixed[i + 8] = EVEN_QUADS(rows[i + 8], rows[i + 12]);
        mixed[i + 12] = ODD_QUADS(rows[i + 8], rows[i + 12]);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = EVEN_QUADS(mixed[i], mixed[i + 8]);
        rows[i + 8] = ODD_QUADS(mixed[i], mixed[i + 8]);
        rows[i + 4] = EVEN_QUADS(mixed[i + 4], mixed[i + 12]);
        rows[i + 12] = ODD_QUADS(mixed[i + 4], mixed[i + 12]);
    }
}

/// The words of a message are big-endian.
INLINE void swap(Words *words) {
    Bytes bytes = (Bytes)*words;
    *words = (Words)__builtin_shufflevector(
        bytes, bytes, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16, 23, 22, 21, 20, 27, 26,
        25, 24, 31, 30, 29, 28, 35, 34, 33, 32, 39, 38, 37, 36, 43, 42, 41, 40, 47, 46, 45, 44, 51, 50, 49, 48, 55,
        54, 53, 52, 59, 58, 57, 56, 63, 62, 61, 60);
}

/// FIPS 180-4, 6.2.2. `message` is the window of 16 words that the schedule needs.
INLINE void compress(Words state[8], Words message[16]) {
    Words a = state[0], b = state[1], c = state[2], d = state[3];
    Words e = state[4], f = state[5], g = state[6], h = state[7];
#pragma clang loop unroll(full)
    for (int t = 0; t < 64; t++) {
        Words word = message[t & 15];
        Words first = h + word + constants[t] + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + ((e & f) ^ (~e & g));
        Words second = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
        if (t < 48) {
            Words next = message[(t + 1) & 15], late = message[(t + 14) & 15];
            message[t & 15] = word + message[(t + 9) & 15] + (ROTATE(next, 7) ^ ROTATE(next, 18) ^ next >> 3) +
                              (ROTATE(late, 17) ^ ROTATE(late, 19) ^ late >> 10);
        }
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/// Takes `count` blocks of 64 bytes into each lane.
WIDE static void take(State *state, const uint8_t *const blocks[cs_lanes], size_t count) {
    Words words[8];
    memcpy(words, state->words, sizeof words);
    for (size_t block = 0; block < count; block++) {
        Words message[16];
        for (int lane = 0; lane < cs_lanes; lane++) {
            const uint8_t *bytes = blocks[lane] + 64 * block;
            memcpy(&message[lane], bytes, 64);
            // 16 streams are more than the processor fetches ahead by itself.
            __builtin_prefetch(bytes + 512);
        }
        transpose(message);
        for (int i = 0; i < 16; i++) swap(&message[i]);
        compress(words, message);
    }
    memcpy(state->words, words, sizeof words);
}

static void copyLane(State *target, const State *source, int lane) {
    for (int word = 0; word < 8; word++) target->words[word][lane] = source->words[word][lane];
}

/// Fills in the last one or two blocks of a message: what fills no block, a bit, and the length in bits.
static size_t pad(uint8_t tail[128], const uint8_t *message, size_t length) {
    size_t rest = length % 64, size = rest < 56 ? 64 : 128;
    memset(tail, 0, 128);
    if (rest > 0) memcpy(tail, message + length - rest, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[size - 1 - i] = (uint8_t)((uint64_t)length << 3 >> 8 * i);
    return size / 64;
}

void cs_digest(const uint8_t *const *messages, const size_t *lengths, int count, void *digests) {
    State state, done;
    for (int word = 0; word < 8; word++)
        for (int lane = 0; lane < cs_lanes; lane++) state.words[word][lane] = initial[word];
    const uint8_t *next[cs_lanes];
    // A lane without a message, or at its end, goes on with the longest one's, for nothing.
    for (int lane = 0; lane < cs_lanes; lane++) next[lane] = messages[lane < count ? lane : 0];
    done = state;
    size_t position = 0;
    for (int lane = count - 1; lane >= 0; lane--) {
        size_t blocks = lengths[lane] / 64 - position;
        take(&state, next, blocks);
        position += blocks;
        for (int i = 0; i < cs_lanes; i++) next[i] += 64 * blocks;
        copyLane(&done, &state, lane);
        next[lane] = next[0];
    }

    uint8_t tails[cs_lanes][128];
    size_t tailBlocks[cs_lanes];
    for (int lane = 0; lane < cs_lanes; lane++) {
        tailBlocks[lane] = lane < count ? pad(tails[lane], messages[lane], lengths[lane]) : 0;
        next[lane] = tails[lane < count ? lane : 0];
    }
    state = done;
    for (size_t block = 1; block <= 2; block++) {
        take(&state, next, 1);
        for (int lane = 0; lane < cs_lanes; lane++) {
            if (tailBlocks[lane] == block) copyLane(&done, &state, lane);
            next[lane] += 64;
        }
    }
    for (int lane = 0; lane < count; lane++)
        for (int i = 0; i < 32; i++)
            ((uint8_t *)digests)[32 * lane + i] = (uint8_t)(done.words[i / 4][lane] >> (24 - 8 * (i % 4)));
}
