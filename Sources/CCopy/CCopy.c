#include "CCopy.h"
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

// What every processor stores at once, and what memory takes at once.
typedef uint8_t Store __attribute__((vector_size(16)));
enum { LINE = 64, STORES = LINE / sizeof(Store) };

// Below this the caches win, and at either end of a stretch they are needed.
enum { LARGE = 64 << 10 };

void cc_copy(void *target, const void *source, size_t bytes) {
    uint8_t *to = target;
    const uint8_t *from = source;
    if (bytes < LARGE) {
        memcpy(to, from, bytes);
        return;
    }
    size_t head = (size_t)(-(uintptr_t)to % LINE);
    memcpy(to, from, head);
    to += head, from += head, bytes -= head;
    for (; bytes >= LINE; to += LINE, from += LINE, bytes -= LINE) {
        Store line[STORES];
        memcpy(line, from, LINE);
        for (int i = 0; i < STORES; i++) __builtin_nontemporal_store(line[i], (Store *)to + i);
    }
    memcpy(to, from, bytes);
    // Such stores keep no order of their own.
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}
