// Numbers of 1, 2, 4 or 8 bytes, and their bytes by place: plane 0 holds the lowest byte of each number, one behind the other.
// In C, because only there a compiler makes several versions of a loop for the vector units that a processor may have.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Splits `count` numbers of `size` bytes into `size` planes of `count` bytes, one behind the other.
///
/// Without `base`: each number is rotated left by one bit, so that the sign of a float is its lowest bit, and the exponent, which the
/// numbers of a tensor have in common, fills its highest byte. With `base`: what the number is more than the one in `base`, wrapped
/// around, its sign in the lowest bit, so that small differences of either sign have zeros in all high planes.
void cp_split(const void *source, const void *base, size_t count, size_t size, void *planes);

/// The reverse. The planes may lie anywhere. `isDifference`: `target` holds the base, and then the numbers.
void cp_merge(const void *const *planes, size_t count, size_t size, int isDifference, void *target);
