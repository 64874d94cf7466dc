// For the names of parameters that the shared library has, but its header only shows to those who link it statically.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
