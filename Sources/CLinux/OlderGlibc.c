// Swift's overlay of glibc is linked as a whole, and its hypotf wants the one of glibc 2.35, though nothing here calls it: the only thing
// that would keep the library from loading with 2.34. So that one is this one, which nothing else sees.

#include <math.h>

__attribute__((visibility("hidden"))) float hypotf(float x, float y) {
    if (isinf(x) || isinf(y)) return INFINITY;
    // The squares of floats neither overflow nor vanish as doubles.
    return (float)sqrt((double)x * x + (double)y * y);
}
