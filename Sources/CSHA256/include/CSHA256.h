/// SHA-256 of up to 16 messages at once, one in each lane of the processor's widest registers. (FIPS 180-4)
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { cs_lanes = 16 };

/// Hashes `count` messages, 1 to 16 of them. Takes as long as 16 of the longest would.
/// - lengths: in bytes, the longest first.
/// - digests: 32 bytes for each message.
void cs_digest(const uint8_t *const *messages, const size_t *lengths, int count, void *digests);
