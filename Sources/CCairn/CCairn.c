#include "cairn.h"
// The functions are in Swift, in the target CairnC. SwiftPM wants a source in every target of C.
