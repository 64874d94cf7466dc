// Copies of memory that is larger than the caches, and not looked at soon.
#pragma once
#include <stddef.h>

/// As memcpy, but large stretches go to memory past the caches: what is there need not be brought into them first, which is a third of
/// what memory has to move. When this returns, other threads see what was copied as after any store.
void cc_copy(void *target, const void *source, size_t bytes);
